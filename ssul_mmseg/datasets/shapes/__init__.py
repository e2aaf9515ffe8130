"""The embedded data set."""
from .dataset import ShapesDataset

__all__ = ['ShapesDataset']
