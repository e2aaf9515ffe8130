"""From an image on disk to a batch of a task."""
from .. import quiet  # noqa: F401 - before anything imports mmseg

# isort: split
from .camvid import CamVidDataset, CamVidThingsDataset
from .new_class import NewClassDataset
from .samplers import ReplayBatchSampler
from .shapes import ShapesDataset
from .task_dataset import TaskDataset
from .transforms import LabelAugmentation, LoadImage, LoadLabels, RandomScale, ScaleAndFlip, ShortSideCenterCrop

__all__ = ['CamVidDataset', 'CamVidThingsDataset', 'LabelAugmentation', 'LoadImage', 'LoadLabels',
           'NewClassDataset', 'RandomScale', 'ReplayBatchSampler', 'ScaleAndFlip', 'ShapesDataset',
           'ShortSideCenterCrop', 'TaskDataset']
