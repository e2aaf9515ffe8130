"""Stop a run at NaN or infinity before it overwrites good files."""
import math
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..errors import InputError
from ..work_dir.weights import not_finite
from .runner import TaskRunner


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops training at a loss that is NaN or infinite; all saved files are older than it."""

    priority = 'HIGH'

    def after_train_iter(self, runner: TaskRunner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Check the loss.

        Raises:
            InputError: it is NaN or infinite; names the images of the batch.
        """
        loss = torch.as_tensor((outputs or {})['loss']).item()
        if not math.isfinite(loss):
            dataset = runner.train_dataloader.dataset
            keys = runner.train_loop.batch(runner.iter)
            images = ', '.join(dataset.image_id(dataset.image_at(position)) for position, _ in keys)
            raise InputError(f'the loss of task {runner.task} is {loss} at iteration {runner.iter} on the images '
                             f'{images}; what was saved before is whole: correct these images or their masks and run '
                             'again with --resume, which begins this task anew with them, or start in another '
                             '--work-dir with a lower optim_wrapper.optimizer.lr')


def refuse_not_finite(state: dict, runner: Runner, iterations: int) -> None:
    """Raise an :class:`.InputError` before a state with NaN or infinite values overwrites a good one."""
    name = not_finite(state)
    if name is not None:
        raise InputError(f'{name} holds a number that is NaN or infinite after {iterations} iterations of '
                         f'{Path(runner.work_dir).name}; what was saved before is whole: start in another --work-dir '
                         'with a lower optim_wrapper.optimizer.lr')
