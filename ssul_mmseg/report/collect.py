"""Result files: one entry per task, one document per run, several runs side by side."""
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path

from ..errors import InputError
from ..files import read_json
from ..tasks import Scenario
from .tables import comparison_table

SCHEMA = 1
PACKAGES = dict(torch='torch', mmcv='onedl-mmcv', mmengine='onedl-mmengine', mmseg='onedl-mmsegmentation',
                numpy='numpy', ssul_mmseg='ssul_mmseg')
COLUMNS = ('base', 'new', 'all')
PAPER_TABLES = {'VOC': 'table1_voc', 'ADE20K': 'table2_ade'}


def task_entry(task: int, classes: Sequence[str], num_images: int, memory: int, metrics: Mapping,
               seconds: float) -> dict:
    """What a result file holds of one task.

    Args:
        task: index of the task.
        classes: names of the classes that it learned.
        num_images: images of D_t.
        memory: exemplars replayed.
        metrics: result of ``IncrementalIoUMetric``, in percent.
        seconds: wall-clock time of training and evaluation.
    """
    return {
        'task': task,
        'classes': list(classes),
        'num_images': num_images,
        'memory': memory,
        'IoU': dict(metrics['IoU']),
        'mIoU': {column: metrics[f'mIoU_{column}'] for column in COLUMNS},
        'mIoU_no_background': {
            'base': metrics['mIoU_base_no_background'], 'new': metrics['mIoU_new'],
            'all': metrics['mIoU_all_no_background']},
        'forgetting': metrics['forgetting'],
        'forgetting_per_task': list(metrics['forgetting_per_task']),
        'seconds': round(seconds, 1),
    }


def results_document(config: str, dataset: str, scenario: Scenario, setting: str, method: str, seed: int,
                     tasks: Sequence[dict]) -> dict:
    """What a run's ``results.json`` holds; ``final`` is the mIoU after its last task."""
    return {
        'schema': SCHEMA,
        'config': config,
        'dataset': dataset,
        'scenario': scenario.name,
        'setting': setting,
        'method': method,
        'seed': seed,
        'versions': {'python': platform.python_version(), **{k: metadata.version(v) for k, v in PACKAGES.items()}},
        'tasks': list(tasks),
        'final': dict(tasks[-1]['mIoU']) if tasks else dict.fromkeys(COLUMNS),
    }


def read_results(path: str | Path) -> dict:
    """Read a ``results.json``.

    Raises:
        InputError: it is missing, torn, or no result file.
    """
    path = Path(path) / 'results.json' if Path(path).is_dir() else Path(path)
    document = read_json(path)
    needed = ('dataset', 'scenario', 'setting', 'method', 'seed', 'tasks', 'final')
    if not isinstance(document, dict) or document.get('schema') != SCHEMA:
        raise InputError(f'{path} is no result file of schema {SCHEMA}; give a results.json that tools/train.py wrote')
    missing = [key for key in needed if key not in document]
    if missing or set(document['final']) != set(COLUMNS):
        raise InputError(f'{path} lacks {(missing or ["final"])[0]!r}; run its training again with --resume')
    return document


def compare(paths: Sequence[str | Path]) -> str:
    """Markdown tables of runs, one per data set and scenario: mean and spread over seeds, the paper's beside."""
    groups: dict[tuple[str, str, str], dict[str, list[dict]]] = {}
    for document in map(read_results, paths):
        place = document['dataset'], document['scenario'], document['setting']
        groups.setdefault(place, {}).setdefault(document['method'], []).append(document)
    parts = []
    for (dataset, scenario, setting), methods in groups.items():
        rows = [dict(method=method, runs=[document['final'] for document in documents],
                     paper=paper_numbers(dataset, scenario, setting, method))
                for method, documents in methods.items()]
        parts.append(f'{dataset} {scenario}, {setting}\n\n{comparison_table(rows)}')
    return '\n'.join(parts)


def paper_numbers(dataset: str, scenario: str, setting: str, method: str) -> list[float] | None:
    """The paper's mIoU [base, new, all] in percent (Tables 1 and 2), or None where it has none."""
    if setting != 'overlapped' or dataset not in PAPER_TABLES:
        return None
    tables = read_json(resources.files(__package__) / 'paper_tables.json')
    table = tables[PAPER_TABLES[dataset]]
    row = table.get('Joint' if method == 'joint' else method)
    return row[table['columns'].index(scenario)] if row and scenario in table['columns'] else None
