"""Save checkpoints inside a task, and resume from the last one."""
import os
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from ..errors import InputError
from ..work_dir.layout import CHECKPOINT, PREVIOUS, WEIGHTS
from ..work_dir.weights import load_state, save_state
from .finite_hook import refuse_not_finite
from .processes import unwrap
from .resume import rename_stale
from .runner import TaskRunner
from .weights_hook import ORIGIN, origin_of


@HOOKS.register_module()
class CheckpointResumeHook(Hook):
    """Saves the state of training at intervals, and resumes from it when the task is started again.

    Nothing random needs saving: order, augmentations and dropout are functions of seed, task and iteration.

    Args:
        interval: epochs, or iterations, between two checkpoints; none is saved at the end of a task, whose weights are.
        by_epoch: whether ``interval`` counts epochs.

    Raises:
        InputError: ``interval`` is no whole number of at least 1, or ``by_epoch`` no bool.
    """

    # After the schedulers' hook: a checkpoint must hold the learning rate of the next iteration.
    priority = 'VERY_LOW'

    def __init__(self, interval: int = 5, by_epoch: bool = True) -> None:
        if type(interval) is not int or interval < 1:
            raise InputError(f'checkpoint.interval is {interval!r}; it is a number of epochs or iterations, at least 1')
        if type(by_epoch) is not bool:
            raise InputError(f'checkpoint.by_epoch is {by_epoch!r}; it is True or False')
        self.interval = interval
        self.by_epoch = by_epoch

    def before_train(self, runner: TaskRunner) -> None:
        """Resume from the last checkpoint, if there is one and it belongs to this task's data and old weights."""
        self._origin = origin_of(runner)
        paths = (Path(runner.work_dir) / name for name in (CHECKPOINT, PREVIOUS))
        path = next((path for path in paths if path.exists()), None)
        if path:
            state = load_state(path)
            if state.get(ORIGIN) != self._origin:
                barrier()  # rename only after all processes have read it
                if is_main_process():
                    rename_stale(path.parent, (CHECKPOINT, PREVIOUS), f'{path.parent.name} was begun from other '
                                  'weights of the task before, or on other images or masks')
                return
            try:
                self._restore(runner, state)
            except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                raise InputError(f'{path} is no checkpoint of this task; delete it and run again with '
                                 '--resume') from error

    def _restore(self, runner: TaskRunner, state: dict[str, Any]) -> None:
        """Put the runner where the checkpoint was taken."""
        if type(state['iter']) is not int:
            raise TypeError('iter is no whole number')
        model = unwrap(runner.model)
        model.load_state_dict(state['state_dict'])
        model.load_task_state(state['method_state'])
        runner.optim_wrapper.load_state_dict(state['optimizer'])
        for scheduler, saved in zip(runner.param_schedulers, state['param_schedulers'], strict=True):
            scheduler.load_state_dict(saved)
        loop = runner.train_loop
        loop._iter = state['iter']
        loop._epoch = state['iter'] // len(loop.dataloader)
        runner.optim_wrapper.initialize_count_status(runner.model, loop.iter, loop.max_iters)

    def after_train_iter(self, runner: TaskRunner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Save inside an epoch, but not at its end: schedulers that count epochs have not moved yet."""
        done = runner.iter + 1
        if done % len(runner.train_dataloader):
            self._save(runner, done)

    def after_train_epoch(self, runner: TaskRunner) -> None:
        """Save at the end of an epoch."""
        self._save(runner, runner.iter)

    def _save(self, runner: TaskRunner, done: int) -> None:
        """Save after ``done`` iterations if the interval ends there, but not at the end of the task."""
        interval = self.interval * (len(runner.train_dataloader) if self.by_epoch else 1)
        # A checkpoint holds no accumulated gradients, so save only right after an update: of the iterations since the
        # last update, one may have ended the interval.
        counts = runner.optim_wrapper._accumulative_counts
        if done % counts or done // interval == (done - counts) // interval or done >= runner.max_iters:
            return
        state = {
            'state_dict': unwrap(runner.model).state_dict(),
            'method_state': unwrap(runner.model).task_state(),
            'optimizer': runner.optim_wrapper.state_dict(),
            'param_schedulers': [scheduler.state_dict() for scheduler in runner.param_schedulers],
            'iter': done,
            ORIGIN: self._origin,
        }
        refuse_not_finite(state, runner, done)
        if not is_main_process():
            return
        path = Path(runner.work_dir) / CHECKPOINT
        if path.exists():
            os.replace(path, path.with_name(PREVIOUS))
        save_state(path, state)

    def after_run(self, runner: TaskRunner) -> None:
        """Delete the checkpoints of a learned task: its weights are saved."""
        if is_main_process() and (Path(runner.work_dir) / WEIGHTS).exists():
            for name in (CHECKPOINT, PREVIOUS):
                (Path(runner.work_dir) / name).unlink(missing_ok=True)
