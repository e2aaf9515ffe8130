"""One task after the other: the runner of a task, its hooks and loops, and the loop over the tasks."""
from .. import quiet  # noqa: F401 - before anything imports mmseg

# isort: split
from .checkpoint_hook import CheckpointResumeHook
from .loops import FeatureCacheTestLoop, FeatureCacheTrainLoop
from .optim import BFloat16OptimWrapper
from .progress_hook import ProgressHook
from .schedule import DeepLabPolyLR
from .task_hook import IncrementalTaskHook

__all__ = ['BFloat16OptimWrapper', 'CheckpointResumeHook', 'DeepLabPolyLR', 'FeatureCacheTestLoop',
           'FeatureCacheTrainLoop', 'IncrementalTaskHook', 'ProgressHook']
