"""Going on where a run stopped: is it still the same run, and which of its files are whole and belong together?"""
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ..datasets.memory import ExemplarMemory
from ..errors import InputError
from ..scenario import Scenario
from ..work_dir.files import read_json, write_json
from ..work_dir.layout import CHECKPOINT, MEMORY, PREVIOUS, RESULT, RUN, WEIGHTS, task_dir, task_dirs
from ..work_dir.results import read_entry
from ..work_dir.weights import load_state

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


def check_classes(work_dir: str | Path, scenario: Scenario, classes: Sequence[str], config: str | None) -> None:
    """Refuse a work dir that was trained on other classes, or in another order, than the config has.

    Args:
        work_dir: of the scenario.
        scenario: the config's scenario.
        classes: the config's class names by label, background first.
        config: the config's file.
    """
    for task, labels in enumerate(scenario.tasks):
        path = task_dir(work_dir, task) / RESULT
        try:
            trained = read_entry(path, task)['classes'] if path.is_file() else None
        except InputError:
            continue  # a damaged file is reported where its values are needed
        here = [classes[label] for label in labels]
        if trained not in (None, here):
            raise InputError(f'task {task} in {work_dir} was trained on the classes {", ".join(trained)}, but the '
                             f'config {config} has {", ".join(here)}; give the config that was trained, or choose '
                             'another work dir')


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
    return any(_begun(work_dir, task) for task in task_dirs(work_dir))


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
        rename_stale(folder, READERS, f'task {task} was learned from other weights of task {task - 1}')


def rename_stale(folder: Path, names: Iterable[str], reason: str) -> None:
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
