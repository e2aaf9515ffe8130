"""Read the runs of one scenario, and gather them into the rows that tables and figures show."""
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..evaluation.compare import group_runs, order_name, paper_numbers, run_settings
from ..scenario import Scenario
from ..work_dir.layout import RESULTS, RUN
from ..work_dir.results import read_results

PAPER_MEMORY = {'VOC': 100, 'ADE20K': 300}
"""Memory size of the paper's rows, by data set (section 4.1)."""


@dataclass(frozen=True)
class ReportRun:
    """One run.

    Args:
        path: what was given: a work dir or its ``results.json``.
        document: its results, see ``work_dir.results``.
        memory_size: ``|M|``, 0 for a run without a memory.
        name: what the report calls it: its method, with the memory size where runs differ in it.
    """

    path: Path
    document: dict
    memory_size: int
    name: str

    @property
    def folder(self) -> Path:
        """The work dir."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def tasks(self) -> dict[int, dict]:
        """Entries of the learned tasks, by task."""
        return {entry['task']: entry for entry in self.document['tasks']}

    @property
    def finished(self) -> bool:
        """Whether all tasks are learned."""
        return self.document['final']['all'] is not None


@dataclass(frozen=True)
class Row:
    """Runs that differ in the seed alone.

    Args:
        name: what the report calls them.
        order: name of the class order, '' for the data set's own.
        runs: one for each seed, ascending.
        paper: the paper's mIoU [base, new, all] in percent, None where it has none.
    """

    name: str
    order: str
    runs: Sequence[ReportRun]
    paper: list[float] | None

    @property
    def title(self) -> str:
        """Name and class order."""
        return self.name + self.order

    @property
    def final(self) -> list[dict]:
        """mIoU by column of each finished run, in percent."""
        return [run.document['final'] for run in self.runs if run.finished]

    @property
    def task(self) -> int:
        """The last task that all its runs have learned."""
        return min(max(run.tasks) for run in self.runs)

    def means(self, column: str) -> dict[int, list[float]]:
        """mIoU of a column by task, in percent, one value a run; tasks without a value are left out."""
        found: dict[int, list[float]] = defaultdict(list)
        for run in self.runs:
            for task, entry in run.tasks.items():
                if entry['mIoU'][column] is not None:
                    found[task].append(entry['mIoU'][column])
        return dict(sorted(found.items()))

    def measure(self, key: str) -> dict[int, float]:
        """Mean over the runs of a number of each task's entry, such as 'seconds'; tasks without one are left out."""
        found: dict[int, list[float]] = defaultdict(list)
        for run in self.runs:
            for task, entry in run.tasks.items():
                if entry[key] is not None:
                    found[task].append(entry[key])
        return {task: float(np.mean(values)) for task, values in sorted(found.items())}

    @property
    def classes(self) -> list[str]:
        """Names of the classes learned by then, in the order of learning, background first."""
        return list(self.runs[0].tasks[self.task]['IoU'])

    def iou(self) -> np.ndarray:
        """IoU in percent, mean over the runs: float (classes, tasks), NaN where there is none."""
        values = np.full((len(self.runs), len(self.classes), self.task + 1), np.nan)
        for place, run in enumerate(self.runs):
            for task in range(self.task + 1):
                known = run.tasks[task]['IoU'] if task in run.tasks else {}
                for label, name in enumerate(self.classes):
                    value = known.get(name)
                    values[place, label, task] = np.nan if value is None else value
        count = (~np.isnan(values)).sum(axis=0)
        return np.where(count, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)

    def confusion(self) -> np.ndarray | None:
        """Share of each class's pixels that is taken for each class after the last task.

        Returns:
            float (classes, classes): labelled by predicted class, over the pixels of all runs; NaN in the row of a
            class that no pixel is labelled as. None where no run kept it.
        """
        kept = [run.tasks[self.task]['confusion'] for run in self.runs if run.tasks[self.task]['confusion']]
        if not kept:
            return None
        pixels = np.sum(kept, axis=0)
        total = pixels.sum(axis=1, keepdims=True)
        return np.where(total, pixels / np.maximum(total, 1), np.nan)


@dataclass(frozen=True)
class Report:
    """Runs of one scenario.

    Args:
        dataset: name of the data set.
        scenario: such as '15-1'.
        setting: such as 'overlapped'.
        rows: the runs, by method, memory size and class order.
        num_tasks: tasks of the scenario.
    """

    dataset: str
    scenario: str
    setting: str
    rows: Sequence[Row]
    num_tasks: int

    @property
    def title(self) -> str:
        """Data set, scenario and setting."""
        return f'{self.dataset} {self.scenario}, {self.setting}'

    @property
    def runs(self) -> list[ReportRun]:
        """All runs."""
        return [run for row in self.rows for run in row.runs]

    @property
    def first_order(self) -> list[Row]:
        """The rows of one class order: the data set's own, or that of the first run."""
        orders = [row.order for row in self.rows]
        shown = '' if '' in orders else orders[0]
        return [row for row in self.rows if row.order == shown]


def collect(paths: Sequence[str | Path]) -> Report:
    """Read runs of one scenario; some may still be going.

    Args:
        paths: work dirs, or ``results.json`` files.

    Raises:
        InputError: a run has no results, or results of another version; two are of different scenarios, have the same
            seed, or differ in more than seed, memory size and class order.
    """
    runs = [_read(Path(path)) for path in paths]
    first = runs[0]
    for run in runs[1:]:
        if _place(run) != _place(first):
            raise InputError(f'{first.path} is a run of {_place(first)}, but {run.path} of {_place(run)}; make a '
                             'report for each scenario')
        if run.document['order'] == first.document['order'] and not _agree(_classes(run), _classes(first)):
            raise InputError(f'{first.path} and {run.path} have learned classes of different names, though they are of '
                             'one scenario and class order; make a report for each version of the data')
    runs = _named(runs)
    by_seed = {(run.name, order_name(run.document['order']), run.document['seed']): run for run in runs}
    rows = []
    for place, methods in group_runs((run.path, {**run.document, 'method': run.name}) for run in runs).items():
        for name, documents in methods.items():
            members = [by_seed[name, order, seed] for order, seed in sorted(documents)]
            rows.append(Row(name, place.order, members, _paper(members[0], place.order)))
    scenario = Scenario(first.document['scenario'], len(first.document['order']))
    return Report(first.document['dataset'], first.document['scenario'], first.document['setting'], rows,
                  len(scenario.tasks))


def _read(path: Path) -> ReportRun:
    """Read one run."""
    if path.is_dir() and not (path / RESULTS).exists():
        if (path / RUN).exists():
            raise InputError(f'the run in {path} has no results yet; wait until its first task is learned, or go on '
                             'with it with --resume')
        raise InputError(f'{path} holds no {RESULTS}; give a work dir of ssul train')
    document = read_results(path)
    if not document['tasks']:
        raise InputError(f'the run of {path} has learned no task yet; wait until its first task is learned')
    settings = run_settings(path)
    # Without a config: a task replays the whole memory.
    size = settings.get('memory.size', 0) if settings else max(entry['memory'] for entry in document['tasks'])
    if type(size) is not int:
        raise InputError(f'memory.size in {path.parent / RUN if path.is_file() else path / RUN} is {size!r}, not a '
                         'number of images; restore the file')
    return ReportRun(path, document, size, document['method'])


def _place(run: ReportRun) -> str:
    """What all runs of a report share, in words."""
    document = run.document
    return f'{document["dataset"]} {document["scenario"]}, {document["setting"]}, {len(document["order"])} classes'


def _classes(run: ReportRun) -> list[str]:
    """Names of the classes that a run has learned, in the order of learning."""
    return list(run.document['tasks'][-1]['IoU'])


def _agree(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two runs name the classes that both have learned alike; one may have come further."""
    return all(name == other for name, other in zip(names, others, strict=False))


def _named(runs: Sequence[ReportRun]) -> list[ReportRun]:
    """Tell runs of one method apart by their memory size, where they differ in it."""
    sizes: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        sizes[run.name].add(run.memory_size)
    return [replace(run, name=f'{run.name}, {run.memory_size} images') if len(sizes[run.name]) > 1 else run
            for run in runs]


def _paper(run: ReportRun, order: str) -> list[float] | None:
    """The paper's numbers beside a run: they are of the data set's own order, and of one memory size."""
    document = run.document
    renamed = run.name != document['method']
    if order or (renamed and run.memory_size != PAPER_MEMORY.get(document['dataset'])):
        return None
    return paper_numbers(document['dataset'], document['scenario'], document['setting'], document['method'])
