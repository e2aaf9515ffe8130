"""Importing this registers every component of the package in mmseg's registries; configs name it as a custom import."""
from . import datasets, engine, methods, models
from .evaluation import metrics, open_set

__all__ = ['datasets', 'engine', 'methods', 'metrics', 'models', 'open_set']
