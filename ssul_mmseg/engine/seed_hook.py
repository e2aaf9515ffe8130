"""Make the randomness of an iteration a function of seed, task and iteration, so that no random state is saved."""
import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from .processes import unwrap
from .runner import TaskRunner


@HOOKS.register_module()
class SeedHook(Hook):
    """Seeds PyTorch before every iteration, and passes the model the places of its images in the whole batch."""

    priority = 'HIGH'

    def before_train_iter(self, runner: TaskRunner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seed PyTorch differently in each process, but the model alike: processes share the draws of a batch."""
        entropy = runner.scenario_run.seed, runner.task, runner.iter
        torch.manual_seed(_seed(*entropy, get_rank()))
        places, size = runner.train_loop.places(runner.iter)
        unwrap(runner.model).begin_batch(_seed(*entropy), places, size)


def _seed(*entropy: int) -> int:
    """Derive a seed for PyTorch from non-negative integers."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
