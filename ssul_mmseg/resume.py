"""Going on where a run stopped: checkpoints inside a task, and a check that the run is still the same."""
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from .errors import InputError
from .files import read_json, write_json
from .hooks import ORIGIN, refuse_not_finite
from .layout import CHECKPOINT, MEMORY, PREVIOUS, RESULT, RUN, WEIGHTS, task_dir
from .memory import ExemplarMemory
from .processes import bare
from .weights import load_state, save_state

READERS = {WEIGHTS: load_state, MEMORY: ExemplarMemory.read, RESULT: read_json, CHECKPOINT: load_state,
           PREVIOUS: load_state}
# What may differ between the parts of a run: where it writes, what it shows, how data reach it.
FREE_KEYS = ('work_dir', 'filename', 'launcher', 'resume', 'log_level', 'log_processor', 'visualizer', 'vis_backends',
             'checkpoint', 'default_hooks.logger', 'default_hooks.checkpoint', 'default_hooks.timer',
             'default_hooks.visualization', 'env_cfg', 'trust_pickled_weights')
FREE_ENDINGS = ('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')


def check_same_run(cfg: Config, tasks: Sequence[int], resume: bool) -> None:
    """Refuse to overwrite a run, or to go on with another config than the recorded one (:func:`record_run`).

    Raises:
        InputError: a task is there already and ``resume`` is off, or the config differs from the run's.
    """
    work_dir = Path(cfg.work_dir)
    there = [task for task in tasks if _begun(work_dir, task)]
    if there and not resume:
        raise InputError(f'task {there[0]} is in {work_dir} already; add --resume to go on with that run, or choose '
                         'another --work-dir')
    path = work_dir / RUN
    if not there and not (path.exists() and _anything_begun(work_dir)):
        return
    now = _record(cfg)
    try:
        was = read_json(path)
        if not isinstance(was, dict):
            raise InputError(f'{path} does not hold the config of a run')
    except InputError as error:
        raise InputError(f'{error.fault}: whether this run has the config of the tasks in {work_dir} cannot be told; '
                         'restore the file, or choose another --work-dir') from error
    # None is a value of its own: model.tau=None is no default.
    both = [(key, *(repr(config[key]) if key in config else 'not set' for config in (was, now)))
            for key in sorted({*was, *now})]
    differing = [f'{key}: {old}, now {new}' for key, old, new in both if old != new]
    if differing:
        shown = '; '.join(differing[:5])
        raise InputError(f'the run in {work_dir} had another config ({shown}{"; ..." if len(differing) > 5 else ""}); '
                         'use that config, or choose another --work-dir')


def record_run(cfg: Config) -> None:
    """Write the config into a work dir that has no record, or one of a run that never learned anything."""
    path = Path(cfg.work_dir) / RUN
    if not path.exists() or not _anything_begun(path.parent):
        write_json(path, _record(cfg))


def _record(cfg: Config) -> dict[str, Any]:
    """What must stay the same in all parts of a run, by dotted key."""
    return dict(_flat(json.loads(json.dumps(cfg.to_dict(), default=str))))


def _anything_begun(work_dir: Path) -> bool:
    """Whether anything of any task is saved."""
    return any(_begun(work_dir, int(folder.name.removeprefix('task_'))) for folder in work_dir.glob('task_[0-9]*'))


def _begun(work_dir: Path, task: int) -> bool:
    """Whether anything of a task is saved; logs of a run that failed before its first checkpoint are nothing."""
    return any((task_dir(work_dir, task) / name).exists() for name in READERS)


def set_torn_aside(work_dir: str | Path, task: int) -> None:
    """Rename those of a task's files that are torn, with a message: what they held is made again."""
    for name, read in READERS.items():
        path = task_dir(work_dir, task) / name
        try:
            if path.exists():
                read(path)
        except InputError as error:
            os.replace(path, f'{path}.torn')
            print_log(f'{error.fault}: it is now {name}.torn, and task {task} goes on from what is whole',
                      logger='current', level=logging.WARNING)


def set_stale_aside(work_dir: str | Path, task: int) -> None:
    """Rename the files of a task that was learned from weights of the task before which have since been replaced."""
    folder, before = task_dir(work_dir, task), task_dir(work_dir, task - 1) / WEIGHTS
    if task == 0 or not (folder / WEIGHTS).exists() or not before.exists():
        return
    old, own = (load_state(path).get('meta', {}) for path in (before, folder / WEIGHTS))
    if own.get('origin', {}).get('old weights') != old.get('digest'):
        _rename_stale(folder, READERS, f'task {task} was learned from other weights of task {task - 1}')


def _rename_stale(folder: Path, names: Iterable[str], reason: str) -> None:
    """Rename files that no longer fit, with a message."""
    for path in (folder / name for name in names):
        if path.exists():
            os.replace(path, f'{path}.stale')
    print_log(f'{reason}: its files in {folder} are now *.stale, and it is learned again', logger='current',
              level=logging.WARNING)


def _flat(value: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted keys and plain values of a nested config, without those that cannot matter."""
    if prefix in FREE_KEYS or prefix.endswith(FREE_ENDINGS):
        return
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in items:
            yield from _flat(child, f'{prefix}.{key}' if prefix else str(key))
    else:
        yield prefix, value


@HOOKS.register_module()
class CheckpointResumeHook(Hook):
    """Saves the state of training now and then, and goes on from it when the task is started again.

    Nothing random needs saving: order, augmentations and dropout are functions of seed, task and iteration.

    Args:
        interval: epochs, or iterations, between two checkpoints; the task's end needs none, as its weights are saved.
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

    def before_train(self, runner: Runner) -> None:
        """Go on from the last checkpoint, if there is one."""
        paths = (Path(runner.work_dir) / name for name in (CHECKPOINT, PREVIOUS))
        path = next((path for path in paths if path.exists()), None)
        if path:
            state = load_state(path)
            if state.get(ORIGIN) != runner.message_hub.get_info(ORIGIN):
                barrier()  # until all processes have read it
                if is_main_process():
                    _rename_stale(path.parent, (CHECKPOINT, PREVIOUS), f'{path.parent.name} was begun from other '
                                  'weights of the task before, or on other images')
                return
            try:
                self._restore(runner, state)
            except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                raise InputError(f'{path} is no checkpoint of this task; delete it and run again with '
                                 '--resume') from error

    def _restore(self, runner: Runner, state: dict[str, Any]) -> None:
        """Put the runner where the checkpoint was taken."""
        bare(runner.model).load_state_dict(state['state_dict'])
        runner.optim_wrapper.load_state_dict(state['optimizer'])
        for scheduler, saved in zip(runner.param_schedulers, state['param_schedulers'], strict=True):
            scheduler.load_state_dict(saved)
        loop = runner.train_loop
        loop._iter = state['iter']
        loop._epoch, done = divmod(state['iter'], len(loop.dataloader))
        loop.dataloader.batch_sampler.first_iteration = done
        loop.dataloader.batch_sampler.sampler.set_epoch(loop._epoch)
        runner.optim_wrapper.initialize_count_status(runner.model, loop.iter, loop.max_iters)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Save inside an epoch; at its end some schedulers have yet to move."""
        done = runner.iter + 1
        if done % len(runner.train_dataloader):
            self._save(runner, done)

    def after_train_epoch(self, runner: Runner) -> None:
        """Save at the end of an epoch."""
        self._save(runner, runner.iter)

    def _save(self, runner: Runner, done: int) -> None:
        """Save after ``done`` iterations if the interval ends there, but not at the end of the task."""
        interval = self.interval * (len(runner.train_dataloader) if self.by_epoch else 1)
        # Gradients that wait for others to be added are not saved: the next whole update is.
        counts = runner.optim_wrapper._accumulative_counts
        if done % counts or done // interval == (done - counts) // interval or done >= runner.max_iters:
            return
        state = {
            'state_dict': bare(runner.model).state_dict(),
            'optimizer': runner.optim_wrapper.state_dict(),
            'param_schedulers': [scheduler.state_dict() for scheduler in runner.param_schedulers],
            'iter': done,
            ORIGIN: runner.message_hub.get_info(ORIGIN),
        }
        refuse_not_finite(state, runner, done)
        if not is_main_process():
            return
        path = Path(runner.work_dir) / CHECKPOINT
        if path.exists():
            os.replace(path, path.with_name(PREVIOUS))
        save_state(path, state)

    def after_run(self, runner: Runner) -> None:
        """Drop the checkpoints of a learned task: its weights are written."""
        if is_main_process() and (Path(runner.work_dir) / WEIGHTS).exists():
            for name in (CHECKPOINT, PREVIOUS):
                (Path(runner.work_dir) / name).unlink(missing_ok=True)
