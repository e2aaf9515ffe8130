"""The table of a sweep's results, as Markdown and as CSV, the paper's numbers beside."""
import csv
import io
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..evaluation.compare import comparison_rows, comparison_tables
from ..work_dir.files import write_text
from ..work_dir.layout import RESULTS
from ..work_dir.results import COLUMNS, read_results
from .plan import Job, Plan

TABLE, MEANS, RUNS = '{}.md', '{}.csv', '{}_runs.csv'
"""The files of a table, by its name: for people; the same for programs; and each run by itself, whose spread figures
show. Several tables may share a folder, and the runs that they have in common."""


def write_tables(plan: Plan, done: Sequence[Job]) -> str:
    """Write the tables of the cells that are done into the sweep's folder, and return the Markdown.

    Args:
        plan: the sweep.
        done: the cells that are done.
    """
    groups = comparison_rows([job.folder for job in done], over_orders=plan.orders > 1, papers=plan.papers)
    shown = comparison_tables(groups)
    missing = len(plan.cells) - len(done)
    if missing:
        shown += f'\n{missing} of {len(plan.cells)} runs are not done and not in the table.\n'
    means = []
    for place, rows in groups.items():
        for row in rows:
            means.append([*place[:3], row['method'], len(row['runs']), *_means(row)])
    header = ['dataset', 'scenario', 'setting', 'method', 'runs']
    for column in COLUMNS:
        header += [column, f'{column} deviation', f'{column} paper']
    _write_csv(plan.folder / MEANS.format(plan.name), header, means)
    _write_csv(plan.folder / RUNS.format(plan.name),
               ['dataset', 'scenario', 'setting', 'order', 'method', 'seed', *COLUMNS, 'folder'], map(_run, done))
    write_text(plan.folder / TABLE.format(plan.name), shown)
    return shown


def _means(row: dict) -> list[float | None]:
    """Of each column the mean and the sample standard deviation over runs, and the paper's number."""
    cells: list[float | None] = []
    for i, column in enumerate(COLUMNS):
        known = [run[column] for run in row['runs'] if run[column] is not None]
        cells.append(round(statistics.mean(known), 4) if known else None)
        cells.append(round(statistics.stdev(known), 4) if len(known) > 1 else None)
        cells.append(row['paper'][i] if row['paper'] else None)
    return cells


def _run(job: Job) -> list[Any]:
    """One run's line."""
    found = read_results(job.folder / RESULTS)
    order = ' '.join(map(str, found['order']))
    final = [found['final'][column] for column in COLUMNS]
    return [found['dataset'], found['scenario'], found['setting'], order, found['method'], found['seed'], *final,
            job.folder]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())
