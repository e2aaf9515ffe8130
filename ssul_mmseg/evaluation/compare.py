"""Put runs side by side, and the paper's numbers beside theirs."""
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from ..work_dir.files import read_json
from ..work_dir.layout import RESULTS, RUN
from ..work_dir.results import read_results
from .tables import comparison_table

# 'VOC train' has a seventh of the images that the paper trains on.
PAPER_TABLES = {'VOC': 'table1_voc', 'VOC train': 'table1_voc', 'ADE20K': 'table2_ade'}
ABLATED = '15-1', 'overlapped'
"""Scenario and setting of the paper's Tables 3 and 4, which a row's ``paper`` names."""
SEVERAL = ', several class orders'


class Place(NamedTuple):
    """What runs have in common that stand in one table."""

    dataset: str
    scenario: str
    setting: str
    order: str
    """'' for the data set's own class order, see :func:`order_name`."""


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
    rows = comparison_rows(paths)
    if not rows:
        named = ', '.join(map(str, paths))
        raise InputError(f'none of the runs is finished ({named}); train one to its last task with --resume')
    return comparison_tables(rows)


def comparison_rows(paths: Sequence[str | Path], over_orders: bool = False,
                    papers: Mapping[str, Sequence[str]] | None = None) -> dict[Place, list[dict]]:
    """Rows of the methods in each place, as :func:`~ssul_mmseg.evaluation.tables.comparison_table` takes them.

    Args:
        paths: what :func:`read_results` reads, one per run; unfinished ones are left out with a line each.
        over_orders: whether runs of several class orders belong together, as runs of several seeds do.
        papers: for some methods the place of their numbers in the paper's tables, see :func:`paper_row`.

    Raises:
        InputError: a method has the same run twice, or its runs differ in more than they may.
    """
    read = ((path, read_finished(path)) for path in paths)
    groups = group_runs(((path, document) for path, document in read if document is not None), over_orders)
    rows: dict[Place, list[dict]] = {}
    for place, methods in groups.items():
        rows[place] = []
        for method, runs in methods.items():
            final = [document['final'] for document in runs.values()]
            rows[place].append(dict(method=method, runs=final, paper=_paper(place, method, papers or {})))
    return rows


def group_runs(runs: Iterable[tuple[str | Path, dict]],
               over_orders: bool = False) -> dict[Place, dict[str, dict[tuple[str, int], dict]]]:
    """Gather runs by place, then by method, then by class order and seed.

    Args:
        runs: what :func:`read_results` reads, and the document that it holds.
        over_orders: whether runs of several class orders belong together, as runs of several seeds do.

    Raises:
        InputError: a method has the same run twice, or its runs differ in more than they may.
    """
    groups: dict[Place, dict[str, dict[tuple[str, int], dict]]] = {}
    first: dict[tuple[Place, str], str | Path] = {}
    for path, document in runs:
        method, seed, order = document['method'], document['seed'], order_name(document['order'])
        place = Place(document['dataset'], document['scenario'], document['setting'],
                      SEVERAL if over_orders else order)
        other = first.setdefault((place, method), path)
        differing = [key for key in differing_settings(other, path)
                     if not (over_orders and key.startswith('scenario.order'))]
        if differing:
            raise InputError(f'the runs of {other} and {path} are both called {method}, but differ in more than the '
                             f'seed ({", ".join(differing[:5])}); give one of them another name by training it with '
                             '--cfg-options method=NAME')
        members = groups.setdefault(place, {}).setdefault(method, {})
        if (order, seed) in members:
            raise InputError(f'{path} is a second run of {method} on {" ".join(place[:3])}{order} with seed {seed}; '
                             'give one run per seed')
        members[order, seed] = document
    return groups


def comparison_tables(rows: Mapping[Place, Sequence[dict]]) -> str:
    """Show what :func:`comparison_rows` found, a table per place."""
    parts = []
    for place, methods in rows.items():
        unit = 'runs' if place.order == SEVERAL else 'seeds'
        title = f'{place.dataset} {place.scenario}, {place.setting}{place.order}'
        parts.append(f'{title}: mIoU in percent\n\n{comparison_table(methods, unit)}')
    return '\n'.join(parts)


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
        fault = f'the last task of {path} is not learned, or not evaluated'
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


def _paper(place: Place, method: str, papers: Mapping[str, Sequence[str]]) -> list[float] | None:
    """The paper's numbers of a method in a place, by its name or where ``papers`` says that they stand."""
    if place.order:
        return None
    if method not in papers:
        return paper_numbers(*place[:3], method)
    return paper_row(papers[method]) if (place.scenario, place.setting) == ABLATED else None


def paper_numbers(dataset: str, scenario: str, setting: str, method: str) -> list[float] | None:
    """The paper's mIoU [base, new, all] in percent (Tables 1 and 2), or None where it has none."""
    if setting != 'overlapped' or dataset not in PAPER_TABLES:
        return None
    table = _paper_tables()[PAPER_TABLES[dataset]]
    row = table.get('Joint' if method == 'joint' else method)
    return row[table['columns'].index(scenario)] if row and scenario in table['columns'] else None


def paper_row(place: Sequence[str]) -> list[float]:
    """The paper's mIoU [base, new, all] in percent that stands at a place of ``paper_tables.json``.

    Args:
        place: keys, outermost first, such as ['table4_voc_15-1', 'saliency', 'DRFI'].

    Raises:
        InputError: there are no three numbers; names the keys that there are.
    """
    part: Any = _paper_tables()
    for key in place:
        if not isinstance(part, dict) or key not in part:
            known = f'; known: {", ".join(part)}' if isinstance(part, dict) else ', but numbers'
            raise InputError(f'paper is {list(place)}, but there is no {key!r} in the paper\'s tables{known}')
        part = part[key]
    if not isinstance(part, list) or len(part) != 3:
        raise InputError(f'paper is {list(place)}, where the paper\'s tables have no row of three numbers; choose one '
                         f'of {", ".join(part)}')
    return part


def _paper_tables() -> dict[str, Any]:
    """The paper's tables."""
    return json.loads((resources.files(__package__) / 'paper_tables.json').read_text(encoding='utf-8'))
