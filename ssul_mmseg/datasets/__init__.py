"""Data sets of single tasks, and the embedded and adapted data sets."""
from .camvid import CamVidDataset, CamVidThingsDataset
from .shapes import ShapesDataset
from .task_dataset import TaskDataset

__all__ = ['CamVidDataset', 'CamVidThingsDataset', 'ShapesDataset', 'TaskDataset']
