"""Resume a run: check that it is still the same run, and set aside files that are torn or do not fit together."""
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
# Keys that may change when a run is resumed: where it writes, what it shows, how data are loaded.
FREE_KEYS = ('work_dir', 'filename', 'launcher', 'resume', 'log_level', 'log_processor', 'visualizer', 'vis_backends',
             'checkpoint', 'default_hooks.logger', 'default_hooks.checkpoint', 'default_hooks.timer',
             'default_hooks.visualization', 'env_cfg', 'trust_pickled_weights', 'quiet')
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
        raise InputError(f'{error.fault}, so this run cannot be compared with the tasks in {work_dir}; '
                         'restore the file, or choose another --work-dir') from error
    old, new = _texts(was), _texts(now)
    differing = [f'{key}: {old.get(key, "not set")}, now {new.get(key, "not set")}'
                 for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if differing:
        shown = '; '.join([*differing[:5], *(['...'] if len(differing) > 5 else [])])
        raise InputError(f'the run in {work_dir} had another config ({shown}); '
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
    """Record the config in a work dir that has no record, or only that of a run which has saved nothing."""
    path = Path(cfg.work_dir) / RUN
    if not path.exists() or not _anything_begun(path.parent):
        write_json(path, _record(cfg))


def has_recorded_test_data(cfg: Config) -> bool:
    """Whether a config tests on the images that its work dir's record names, prepared as there; False without one."""
    try:
        was, now = read_json(Path(cfg.work_dir) / RUN), _record(cfg)
    except InputError:
        return False
    if not isinstance(was, dict):
        return False
    old, new = _texts(was), _texts(now)
    keys = [key for key in {*old, *new} if key == 'data_root' or 'test_dataloader.dataset.' in key]
    return all(old.get(key) == new.get(key) for key in keys)


def _texts(record: Mapping[str, Any]) -> dict[str, str]:
    """The values of a record as texts, to be compared: a key that is None differs from a key that is not set."""
    return {key: repr(value) for key, value in record.items()}


def _record(cfg: Config) -> dict[str, Any]:
    """The values that must stay the same when a run is resumed, by dotted key."""
    return dict(_flat(json.loads(json.dumps(cfg.to_dict(), default=str))))


def _anything_begun(work_dir: Path) -> bool:
    """Whether the work dir holds a saved file of any task."""
    return any(_begun(work_dir, task) for task in task_dirs(work_dir))


def _begun(work_dir: Path, task: int) -> bool:
    """Whether the work dir holds a saved file of a task; logs do not count."""
    return any((task_dir(work_dir, task) / name).exists() for name in READERS)


def set_torn_aside(work_dir: str | Path, task: int) -> None:
    """Rename the torn files of a task and report them; the run makes their content again."""
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
    """Rename the files of a task if the weights of the task before have been replaced since it was learned."""
    folder, before = task_dir(work_dir, task), task_dir(work_dir, task - 1) / WEIGHTS
    if task == 0 or not (folder / WEIGHTS).exists() or not before.exists():
        return
    old, own = (load_state(path).get('meta', {}) for path in (before, folder / WEIGHTS))
    if own.get('origin', {}).get('old weights') != old.get('digest'):
        rename_stale(folder, READERS, f'task {task} was learned from other weights of task {task - 1}')


def rename_stale(folder: Path, names: Iterable[str], reason: str) -> None:
    """Rename files that no longer fit, and report why."""
    for path in (folder / name for name in names):
        if path.exists():
            os.replace(path, f'{path}.stale')
    print_log(f'{reason}: its files in {folder} are now *.stale, and it is learned again', logger='current',
              level=logging.WARNING)


def _flat(value: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and plain values of a nested config, without the keys that may change."""
    if prefix in FREE_KEYS or prefix.endswith(FREE_ENDINGS):
        return
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in items:
            yield from _flat(child, f'{prefix}.{key}' if prefix else str(key))
    else:
        yield prefix, value
