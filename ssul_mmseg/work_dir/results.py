"""Result files: one entry per task, one document per run."""
import copy
import platform
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..scenario import Scenario
from .files import read_json
from .layout import RESULTS

SCHEMA = 1
COLUMNS = ('base', 'new', 'all')
PACKAGES = ('torch', 'mmcv', 'mmengine', 'mmseg', 'numpy', 'ssul_mmseg')

# The schema of these files. A tuple holds the allowed types of a value, a list the shape of its items, a dict the keys
# that must be there; the key None stands for any key.
TEXT, WHOLE, NUMBER, PERCENT = (str, ), (int, ), (int, float), (int, float, type(None))
TASK = {
    'task': WHOLE,
    'classes': [TEXT],
    'num_images': WHOLE,
    'memory': WHOLE,
    'IoU': {None: PERCENT},
    'absent': [TEXT],
    'mIoU': dict.fromkeys(COLUMNS, PERCENT),
    'mIoU_no_background': dict.fromkeys(COLUMNS, PERCENT),
    'forgetting': PERCENT,
    'forgetting_per_task': [PERCENT],
    'seconds': NUMBER,
}
# What entries of earlier versions lack; there it stands for "not known".
LATER: dict[str, tuple[list | tuple, Any]] = {
    'confusion': ([[WHOLE]], []),
    'peak_memory': ((int, type(None)), None),
}
DOCUMENT = {
    'config': TEXT,
    'dataset': TEXT,
    'scenario': TEXT,
    'order': [WHOLE],
    'setting': TEXT,
    'method': TEXT,
    'seed': WHOLE,
    'versions': {None: TEXT},
    'tasks': [TASK],
    'final': dict.fromkeys(COLUMNS, PERCENT),
}


def task_entry(task: int, classes: Sequence[str], num_images: int, memory: int, metrics: Mapping,
               seconds: float, peak_memory: int | None = None) -> dict:
    """Make the entry of one task, which its result file holds.

    Args:
        task: index of the task.
        classes: names of the classes that it learned.
        num_images: images of D_t.
        memory: exemplars replayed.
        metrics: result of ``IncrementalIoUMetric``, in percent.
        seconds: wall-clock time of training and evaluation.
        peak_memory: the most memory that the task used, in bytes; None where it is not known.
    """
    return {
        'task': task,
        'classes': list(classes),
        'num_images': num_images,
        'memory': memory,
        'IoU': dict(metrics['IoU']),
        'absent': list(metrics['absent']),
        'mIoU': {column: metrics[f'mIoU_{column}'] for column in COLUMNS},
        'mIoU_no_background': {
            'base': metrics['mIoU_base_no_background'], 'new': metrics['mIoU_new'],
            'all': metrics['mIoU_all_no_background']},
        'forgetting': metrics['forgetting'],
        'forgetting_per_task': list(metrics['forgetting_per_task']),
        'seconds': round(seconds, 1),
        'confusion': metrics['confusion'],
        'peak_memory': peak_memory,
    }


def results_document(config: str, dataset: str, scenario: Scenario, method: str, seed: int,
                     tasks: Sequence[dict]) -> dict:
    """Make the document of a run, which its ``results.json`` holds.

    Args:
        config: path of the config.
        dataset: name of the data set.
        scenario: the scenario.
        method: name of the method.
        seed: seed of the run.
        tasks: entries of the tasks learned so far, ascending.

    Returns:
        The document; ``final`` is the mIoU after the scenario's last task, all None before that.
    """
    finished = bool(tasks) and tasks[-1]['task'] == len(scenario.tasks) - 1
    return {
        'schema': SCHEMA,
        'config': config,
        'dataset': dataset,
        'scenario': scenario.name,
        'order': list(scenario.order),
        'setting': scenario.setting,
        'method': method,
        'seed': seed,
        'versions': {'python': platform.python_version(),
                     **{name: str(import_module(name).__version__) for name in PACKAGES}},
        'tasks': list(tasks),
        'final': dict(tasks[-1]['mIoU']) if finished else dict.fromkeys(COLUMNS),
    }


def read_results(path: str | Path) -> dict:
    """Read a run's results.

    Args:
        path: a ``results.json``, or the folder that holds it.

    Raises:
        InputError: it is missing, torn, no result file, or lacks or distorts a value; names the value.
    """
    path = Path(path) / RESULTS if Path(path).is_dir() else Path(path)
    document = read_json(path)
    if not isinstance(document, dict) or document.get('schema') != SCHEMA:
        raise InputError(f'{path} is no result file of schema {SCHEMA}; give a results.json that ssul train wrote')
    fault = schema_fault(document, DOCUMENT)
    for place, entry in enumerate(document['tasks'] if not fault else ()):
        fault = fault or _complete(entry, f'tasks.{place}.')
    if fault:
        raise InputError(f'{path}: {fault}; run its training again with --resume')
    return document


def read_entry(path: str | Path, task: int, classes: Sequence[str] = ()) -> dict:
    """Read what :func:`task_entry` made.

    Args:
        path: the JSON file.
        task: the task that it must be of.
        classes: names of classes that it must know the IoU of.

    Raises:
        InputError: it is missing, torn, of another task, or lacks or distorts a value; names the value.
    """
    entry = read_json(path)
    fault = (schema_fault(entry, TASK) or schema_fault(entry['IoU'], dict.fromkeys(classes, PERCENT), 'IoU')
             or _complete(entry))
    if not fault and entry['task'] != task:
        fault = f'task is {entry["task"]}, not {task}'
    if fault:
        raise InputError(f'{path}: {fault}; delete it and run again with --resume')
    return entry


def _complete(entry: dict, prefix: str = '') -> str | None:
    """Give a task's entry what an earlier version did not write; say what is wrong with what there is."""
    for key, (shape, default) in LATER.items():
        # A copy: what is changed in one entry must not change the default of the next.
        fault = schema_fault(entry.setdefault(key, copy.copy(default)), shape, prefix + key)
        if fault:
            return fault
    rows, size = entry['confusion'], len(entry['IoU'])
    if not size:
        return f'{prefix}IoU is of no class'
    if rows and {len(rows), *map(len, rows)} != {size}:
        return f'{prefix}confusion is not of the {size} classes of {prefix}IoU'
    return None


def schema_fault(value: Any, shape: dict | list | tuple, key: str = '') -> str | None:
    """Say what is wrong with a value of a result file; None if nothing is.

    Args:
        value: as read from JSON.
        shape: its part of the schema.
        key: dotted path to the value.
    """
    kinds = shape if isinstance(shape, tuple) else (type(shape), )
    if type(value) not in kinds:
        names = ' or '.join('null' if kind is type(None) else kind.__name__ for kind in kinds)
        return f'{key} is {value!r}, not {names}'
    if isinstance(shape, tuple):
        most = 100 if shape is PERCENT else 1e300
        # NaN is neither above nor below.
        return f'{key} is {value!r}, out of range' if type(value) in NUMBER and not -most <= value <= most else None
    if isinstance(shape, list):
        parts = {str(i): (item, shape[0]) for i, item in enumerate(value)}
    else:
        shapes = dict.fromkeys(value, shape[None]) if None in shape else shape
        missing = [name for name in shapes if name not in value]
        if missing:
            return f'{key}.{missing[0]} is missing'.lstrip('.')
        parts = {name: (value[name], shapes[name]) for name in shapes}
    faults = (schema_fault(item, part, f'{key}.{name}'.lstrip('.')) for name, (item, part) in parts.items())
    return next(filter(None, faults), None)
