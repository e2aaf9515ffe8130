"""Put runs side by side, and the paper's numbers beside theirs."""
import json
import sys
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from ..errors import InputError
from ..work_dir.files import read_json
from ..work_dir.layout import RESULTS, RUN
from ..work_dir.results import read_results
from .tables import comparison_table

Place = tuple[str, str, str, str]
"""Data set, scenario, setting, and :func:`order_name` of the class order."""
PAPER_TABLES = {'VOC': 'table1_voc', 'ADE20K': 'table2_ade'}


def compare(paths: Sequence[str | Path]) -> str:
    """Make Markdown tables of runs, one per data set, scenario, setting and class order, with the paper's numbers.

    Runs that differ in the seed alone are averaged, with their spread. The paper's numbers are of the data sets' own
    class order. Runs that are not finished are left out, with a line each on the error stream.

    Args:
        paths: what :func:`read_results` reads, one per run.

    Raises:
        InputError: no run is finished, a method has the same seed twice, or its runs differ in more than the seed.
    """
    if not paths:
        raise InputError('there is nothing to compare; give at least one results.json')
    read = ((path, read_finished(path)) for path in paths)
    groups = group_runs((path, document) for path, document in read if document is not None)
    if not groups:
        raise InputError('none of the runs is finished; train one to its last task with --resume')
    parts = []
    for (dataset, scenario, setting, order), methods in groups.items():
        rows = [dict(method=method, runs=[document['final'] for document in runs.values()],
                     paper=None if order else paper_numbers(dataset, scenario, setting, method))
                for method, runs in methods.items()]
        parts.append(f'{dataset} {scenario}, {setting}{order}: mIoU in percent\n\n{comparison_table(rows)}')
    return '\n'.join(parts)


def group_runs(runs: Iterable[tuple[str | Path, dict]]) -> dict[Place, dict[str, dict[int, dict]]]:
    """Gather runs by data set, scenario, setting and class order, then by method, then by seed.

    Args:
        runs: what :func:`read_results` reads, and the document that it holds.

    Raises:
        InputError: a method has the same seed twice, or its runs differ in more than the seed.
    """
    groups: dict[Place, dict[str, dict[int, dict]]] = {}
    first: dict[tuple[str, ...], str | Path] = {}
    for path, document in runs:
        method, seed = document['method'], document['seed']
        place = document['dataset'], document['scenario'], document['setting'], order_name(document['order'])
        other = first.setdefault((*place, method), path)
        differing = differing_settings(other, path)
        if differing:
            raise InputError(f'the runs of {other} and {path} are both called {method}, but differ in more than the '
                             f'seed ({", ".join(differing[:5])}); give one of them another name by training it with '
                             '--cfg-options method=NAME')
        by_seed = groups.setdefault(place, {}).setdefault(method, {})
        if seed in by_seed:
            raise InputError(f'{path} is a second run of {method} on {" ".join(place[:3])}{place[3]} with seed {seed}; '
                             'give one run per seed')
        by_seed[seed] = document
    return groups


def read_finished(path: str | Path) -> dict | None:
    """Read the results of a finished run; of an unfinished one return None and say so on the error stream.

    Args:
        path: what :func:`read_results` reads; a folder without results counts as a run that has only begun.
    """
    if Path(path).is_dir() and not (Path(path) / RESULTS).exists():
        fault = f'{path} holds no results.json'
    else:
        document = read_results(path)
        if document['final']['all'] is not None:
            return document
        fault = f'the run of {path} has not learned all tasks'
    print(f'warning: {fault}; it is left out', file=sys.stderr)
    return None


def differing_settings(path: str | Path, other: str | Path) -> list[str]:
    """Keys in which the configs of two runs differ, except the seed; [] if a run has no recorded config."""
    one, two = run_settings(path), run_settings(other)
    if not one or not two:
        return []
    return sorted(key for key in {*one, *two} if one.get(key) != two.get(key))


def run_settings(path: str | Path) -> dict:
    """Read the config of the run that wrote a result file, without seed and data folders; {} if it was not recorded.

    Args:
        path: what :func:`read_results` reads.
    """
    path = Path(path)
    config = (path if path.is_dir() else path.parent) / RUN
    content = read_json(config) if config.is_file() else {}
    if not isinstance(content, dict):
        raise InputError(f'{config} does not hold the config of a run; move the results.json away from it')
    return {key: value for key, value in content.items()
            if key != 'randomness.seed' and not key.endswith('data_root')}


def order_name(order: Sequence[int]) -> str:
    """Name the class order for a table's title; '' for the data set's own order."""
    return '' if list(order) == sorted(order) else f', class order {" ".join(map(str, order))}'


def paper_numbers(dataset: str, scenario: str, setting: str, method: str) -> list[float] | None:
    """The paper's mIoU [base, new, all] in percent (Tables 1 and 2), or None where it has none."""
    if setting != 'overlapped' or dataset not in PAPER_TABLES:
        return None
    tables = json.loads((resources.files(__package__) / 'paper_tables.json').read_text(encoding='utf-8'))
    table = tables[PAPER_TABLES[dataset]]
    row = table.get('Joint' if method == 'joint' else method)
    return row[table['columns'].index(scenario)] if row and scenario in table['columns'] else None
