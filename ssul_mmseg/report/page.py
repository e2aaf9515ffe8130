"""Write a report: one page that holds all its pictures, Markdown, and a table of every number."""
import contextlib
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import numpy as np

from ..errors import InputError
from ..evaluation.tables import ABSENT, FORGETTING, class_list, comparison_cells, number, table
from ..work_dir.files import write_text
from ..work_dir.results import COLUMNS
from . import figures
from .collect import Report, ReportRun, Row, collect
from .figures import Chart

if TYPE_CHECKING:
    from .exemplars import ClassExemplars
    from .strips import Strips

PAGE, MARKDOWN, NUMBERS = 'report.html', 'report.md', 'report.csv'
MOST_MISTAKES = 8
"""Pairs of classes that are named as taken for each other."""
TASK_HEADER = ('task', 'classes', 'images', 'memory', *COLUMNS, 'forgetting', 'minutes', 'peak GiB')


@dataclass(frozen=True)
class Part:
    """What the page shows of one row in detail.

    Args:
        row: the row.
        seeds: a sentence on its seeds.
        run: the run of which pictures are shown, its first.
        tasks: cells of the table of its tasks, header first.
        notes: sentences on the table.
        maps: heat map and confusion.
        mistakes: cells of the table of classes that are taken for others, header first.
        exemplars: of the run, [] where they are left out.
        exemplar_note: why they are left out.
        strips: of the run, None where they are left out.
        strip_note: why they are left out.
    """

    row: Row
    seeds: str
    run: ReportRun
    tasks: list[list[str]]
    notes: list[str]
    maps: list[Chart]
    mistakes: list[list[str]]
    exemplars: 'list[ClassExemplars]'
    exemplar_note: str
    strips: 'Strips | None'
    strip_note: str


def write_report(paths: Sequence[str | Path], out: str | Path, images: int = 6) -> Path:
    """Write the report of runs of one scenario: ``report.html``, ``report.md`` and ``report.csv``.

    Args:
        paths: work dirs, or ``results.json`` files; runs may still be going.
        out: folder of the report.
        images: how many test images are shown with what is predicted in them after every task; 0: none.

    Returns:
        The page.

    Raises:
        InputError: the runs cannot be shown together (see :func:`~ssul_mmseg.report.collect.collect`), ``images`` is
            negative, or the folder cannot be written to; then none of the files is left.
    """
    if images < 0:
        raise InputError(f'--images is {images}; give a number of images, 0 for none')
    report = collect(paths)
    with _folder(Path(out)) as write:
        parts = [_part(row, images) for row in report.first_order]
        charts = _charts(report)
        header, body = _comparison(report)
        page = _template().render(report=report, header=header, body=body, charts=charts, parts=parts,
                                  going=_going(report), versions=report.runs[0].document['versions'])
        write(NUMBERS, csv_text(report))
        write(MARKDOWN, markdown(report, parts, charts, [header, *body]))
        write(PAGE, page)
    return Path(out, PAGE)


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[Callable[[str, str], None]]:
    """Give a function that writes a file of a folder; where not all can be written, remove those that were.

    Raises:
        InputError: the folder or a file cannot be written.
    """
    made, written = not out.exists(), []

    def write(name: str, text: str) -> None:
        try:
            # The name of a folder or an image may hold bytes that are no text.
            write_text(out / name, text.encode(errors='backslashreplace').decode())
        except InputError as error:
            raise InputError(f'{error.fault}; free space, or choose another folder with --out') from error
        written.append(out / name)

    try:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f'the folder {out} cannot be made ({error.strerror}); choose another one with '
                             '--out') from error
        yield write
    except BaseException:
        for file in written:
            file.unlink(missing_ok=True)
        if made:
            with contextlib.suppress(OSError):
                out.rmdir()
        raise


def _template() -> jinja2.Template:
    """The template of the page; what a config or a data set names is escaped."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader(__package__, '.'), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.get_template('page.html.j2')


def _comparison(report: Report) -> tuple[list[str], list[list[str]]]:
    """The paper's table of the finished runs: mean and spread over seeds, and the paper's numbers."""
    return comparison_cells([dict(method=row.title, runs=row.final, paper=row.paper) for row in report.rows])


def _charts(report: Report) -> list[Chart]:
    """The figures of all rows."""
    shown = report.first_order
    return [figures.curves(shown), figures.class_orders(report.rows), figures.memory_sizes(shown),
            figures.time_per_task(shown), figures.memory_per_task(shown)]


def _going(report: Report) -> list[str]:
    """A sentence on each run that has not learned all tasks."""
    return [f'{run.name}, seed {run.document["seed"]}, has learned {len(run.tasks)} of {report.num_tasks} tasks; it '
            'is not in the table of final results yet.' for run in report.runs if not run.finished]


def _part(row: Row, images: int) -> Part:
    """What the page shows of a row in detail; what has no data is left out with the reason."""
    # Only here: the tool's --help needs no PyTorch.
    from .exemplars import exemplars_of
    from .strips import strips_of
    run = row.runs[0]
    exemplars: list[ClassExemplars] = []
    strips: Strips | None = None
    exemplar_note, strip_note = '', 'Left out: --images is 0.'
    try:
        exemplars = exemplars_of(run)
    except InputError as error:
        exemplar_note = f'Left out: {error.fault}.'
    try:
        strips = strips_of(run, images) if images else None
    except InputError as error:
        strip_note = f'Left out: {error.fault}.'
    entry = run.tasks[max(run.tasks)]
    notes = [FORGETTING]
    if entry['absent']:
        notes.append(ABSENT.format(len(entry['absent']), len(entry['IoU']) - 1, class_list(entry['absent'])))
    maps = [figures.iou_map(row), figures.confusion_map(row)]
    return Part(row, _seeds(row), run, _task_cells(row), notes, maps, _mistakes(row), exemplars, exemplar_note, strips,
                strip_note)


def _task_cells(row: Row) -> list[list[str]]:
    """A line for each task that all runs have learned, header first: means over the runs."""
    minutes, peak, lost = (row.measure(key) for key in ('seconds', 'peak_memory', 'forgetting'))
    means = {column: row.means(column) for column in COLUMNS}
    cells = [list(TASK_HEADER)]
    for task, entry in row.runs[0].tasks.items():
        columns = [float(np.mean(means[column][task])) if task in means[column] else None for column in COLUMNS]
        cells.append([str(task), class_list(entry['classes']), str(entry['num_images']), str(entry['memory']),
                      *map(number, columns), number(lost.get(task)), number(_scaled(minutes, task, 60)),
                      number(_scaled(peak, task, 2**30))])
    return cells


def _scaled(values: dict[int, float], task: int, unit: float) -> float | None:
    """A task's value in a unit, None where there is none."""
    return values[task] / unit if task in values else None


def _mistakes(row: Row) -> list[list[str]]:
    """Which classes are most often taken for which others, by their share of the class's pixels; header first."""
    cells = [['class', 'taken for', 'share in %']]
    shares = row.confusion()
    if shares is not None:
        pairs = [(share, true, predicted) for (true, predicted), share in np.ndenumerate(shares)
                 if true != predicted and share > 0]
        for share, true, predicted in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:]))[:MOST_MISTAKES]:
            cells.append([row.classes[true], row.classes[predicted], number(100 * share)])
    return cells


def markdown(report: Report, parts: Sequence[Part], charts: Sequence[Chart], comparison: Sequence[list[str]]) -> str:
    """The tables of a report as Markdown, with a sentence on each figure that is left out."""
    text = [f'# {report.title}', 'mIoU in percent after the last task; mean ± sample standard deviation over seeds.',
            table(comparison[0], comparison[1:]), *_going(report)]
    for part in parts:
        text += [f'## {part.row.title}', part.seeds, table(part.tasks[0], part.tasks[1:], text=(0, 1)),
                 *part.notes]
        if len(part.mistakes) > 1:
            text.append(table(part.mistakes[0], part.mistakes[1:], text=(0, 1)))
    for chart in charts:
        if not chart.image:
            text.append(f'{chart.title}: {chart.caption}')
    return '\n\n'.join(text) + '\n'


def _seeds(row: Row) -> str:
    """A sentence on the seeds of a row."""
    seeds = [str(run.document['seed']) for run in row.runs]
    return f'Seed {seeds[0]}.' if len(seeds) == 1 else f'Means over the seeds {", ".join(seeds)}.'


def csv_text(report: Report) -> str:
    """Every number of the runs, one a line: run, task, what is measured, of what, and its value."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(['run', 'method', 'memory_size', 'class_order', 'seed', 'task', 'measure', 'of', 'value'])
    for run in report.runs:
        document = run.document
        known = [run.path, document['method'], run.memory_size, ' '.join(map(str, document['order'])), document['seed']]
        for task, entry in run.tasks.items():
            for measure in ('mIoU', 'mIoU_no_background', 'IoU'):
                writer.writerows([*known, task, measure, of, value] for of, value in entry[measure].items())
            for measure in ('forgetting', 'num_images', 'memory', 'seconds', 'peak_memory'):
                writer.writerow([*known, task, measure, '', entry[measure]])
    return file.getvalue()
