"""Train one task after the other: the runner of a task, its hooks and loops, and the loop over the tasks."""
from .. import quiet  # noqa: F401 - before anything imports mmseg

# isort: split
from .checkpoint_hook import CheckpointResumeHook
from .finite_hook import FiniteLossHook
from .freeze_hook import FreezeHook
from .loops import TaskTestLoop, TaskTrainLoop
from .memory_hook import MemoryHook
from .optim import BFloat16OptimWrapper
from .progress_hook import ProgressHook
from .schedule import DeepLabPolyLR
from .seed_hook import SeedHook
from .solve_loop import TaskSolveLoop
from .visualizer import ScenarioVisualizer
from .weights_hook import WeightsHook

__all__ = ['BFloat16OptimWrapper', 'CheckpointResumeHook', 'DeepLabPolyLR', 'FiniteLossHook', 'FreezeHook',
           'MemoryHook', 'ProgressHook', 'ScenarioVisualizer', 'SeedHook', 'TaskSolveLoop', 'TaskTestLoop',
           'TaskTrainLoop', 'WeightsHook']
