"""Turn results into Markdown tables. Every function returns text; the caller prints it."""
import statistics
from collections.abc import Collection, Mapping, Sequence
from itertools import chain

from ..work_dir.results import COLUMNS

SHOWN_CLASSES = 3
CLASSES_PER_ROW = 4
FORGETTING = 'Forgetting: points lost since a class was learned, the mean over the old classes; negative is a gain.'
BACKGROUND_ALONE = 'Base{} is of background alone: the test masks show no base class.'
ABSENT = 'In no test mask: {} of {} classes ({}); the IoU of such a class is 0 if it is predicted anywhere, else n/a.'


def number(value: float | None) -> str:
    """Format a percentage with the paper's two decimals; n/a for None."""
    # Adding 0 after rounding turns a negative zero into zero.
    return 'n/a' if value is None else f'{round(value, 2) + 0.0:.2f}'


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes}:{seconds:02d}'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], text: Collection[int] = (0, )) -> str:
    """Make a Markdown table with aligned columns.

    Args:
        header: names of the columns.
        rows: as many cells each.
        text: indices of the columns that hold text, aligned left; numbers are aligned right.
    """
    lines = [list(map(_escape, row)) for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    signs = ['<' if i in text else '>' for i in range(len(widths))]

    def line(cells: Sequence[str]) -> str:
        padded = [f'{cell:{sign}{width}}' for cell, sign, width in zip(cells, signs, widths, strict=True)]
        return f'| {" | ".join(padded)} |'

    # A colon at a rule's end aligns the column right.
    ends = {'<': '-', '>': ':'}
    rules = ['-' * (width + 1) + ends[sign] for sign, width in zip(signs, widths, strict=True)]
    rule = f'|{"|".join(rules)}|'
    return '\n'.join([line(lines[0]), rule, *map(line, lines[1:])])


def _escape(cell: str) -> str:
    """Let a cell hold the character that separates columns."""
    return cell.replace('|', r'\|')


def class_list(names: Sequence[str]) -> str:
    """List the names of a task's classes, of many only the first."""
    if len(names) <= SHOWN_CLASSES:
        return ', '.join(names)
    return f'{", ".join(names[:SHOWN_CLASSES])} and {len(names) - SHOWN_CLASSES} more'


def scenario_table(results: dict) -> str:
    """Show one run: a row per task in the paper's columns, then the IoU of every class after the last task.

    Args:
        results: a results document, see ``work_dir.results``.

    Returns:
        Markdown; mIoU and IoU in percent, forgetting in percentage points, n/a where there is none.
    """
    header = ('task', 'classes', 'images', 'memory', *COLUMNS, 'forgetting', 'minutes')
    rows = []
    for task in results['tasks']:
        means = [number(task['mIoU'][column]) for column in COLUMNS]
        rows.append((str(task['task']), class_list(task['classes']), str(task['num_images']), str(task['memory']),
                     *means, number(task['forgetting']), number(task['seconds'] / 60)))
    parts = [f'{_title(results)}: mIoU in percent', table(header, rows, text=(0, 1)), FORGETTING]
    alone = [str(task['task']) for task in results['tasks']
             if _background_alone(task['mIoU'], task['mIoU_no_background'])]
    if alone:
        parts.append(BACKGROUND_ALONE.format(f' of task{"s" * (len(alone) > 1)} {", ".join(alone)}'))
    if results['tasks']:
        last = results['tasks'][-1]
        parts += [f'IoU in percent after task {last["task"]}:', iou_table(last['IoU']), *_absent(last)]
    return '\n\n'.join(parts) + '\n'


def task_table(results: dict, task: int, metrics: Mapping) -> str:
    """Show one task's evaluation: the paper's columns, then the IoU of every class.

    Args:
        results: a results document, see ``work_dir.results``; its tasks are not used.
        task: index of the task.
        metrics: of ``IncrementalIoUMetric``, in percent.

    Returns:
        Markdown; mIoU and IoU in percent, forgetting in percentage points, n/a where there is none.
    """
    means = {column: metrics[f'mIoU_{column}'] for column in COLUMNS}
    row = [*map(number, means.values()), number(metrics['forgetting'])]
    parts = [f'{_title(results)}, task {task}: mIoU in percent', table((*COLUMNS, 'forgetting'), [row], text=()),
             FORGETTING]
    if _background_alone(means, {'base': metrics['mIoU_base_no_background']}):
        parts.append(BACKGROUND_ALONE.format(''))
    return '\n\n'.join([*parts, 'IoU in percent:', iou_table(metrics['IoU']), *_absent(metrics)]) + '\n'


def _title(results: Mapping) -> str:
    """Method, data, scenario and seed of a run."""
    return (f'{results["method"]} on {results["dataset"]} {results["scenario"]}, {results["setting"]}, '
            f'seed {results["seed"]}')


def _absent(metrics: Mapping) -> list[str]:
    """A sentence on the classes that no test mask holds, if there are any; background is not among them."""
    absent = metrics['absent']
    return [ABSENT.format(len(absent), len(metrics['IoU']) - 1, class_list(absent))] if absent else []


def _background_alone(means: Mapping[str, float | None], without: Mapping[str, float | None]) -> bool:
    """Whether a base column holds the IoU of nothing but background, by the means with and without background."""
    return means['base'] is not None and without['base'] is None


def iou_table(iou: Mapping[str, float | None]) -> str:
    """IoU of every class in the order of learning, several classes a row.

    Args:
        iou: percent by class name.
    """
    cells = list(chain.from_iterable((name, number(value)) for name, value in iou.items()))
    width = 2 * min(CLASSES_PER_ROW, len(iou))
    rows = [cells[i:i + width] for i in range(0, len(cells), width)]
    rows[-1] += [''] * (width - len(rows[-1]))
    return table(('class', 'IoU') * (width // 2), rows, text=range(0, width, 2))


def comparison_table(rows: Sequence[dict], unit: str = 'seeds') -> str:
    """Show methods side by side: the mean and, over several runs, the sample standard deviation.

    Args:
        rows: each with ``method``, ``runs`` (mIoU by column after the last task, one per run) and, where the paper
            has such a row, ``paper`` ([base, new, all]).
        unit: what the runs differ in, for the header.

    Returns:
        Markdown; everything in percent.
    """
    return table(*comparison_cells(rows, unit)) + '\n'


def comparison_cells(rows: Sequence[dict], unit: str = 'seeds') -> tuple[list[str], list[list[str]]]:
    """The header and the rows of :func:`comparison_table`."""
    has_paper = any(row.get('paper') for row in rows)
    header = ['method', *COLUMNS, unit, *(f'{column} (paper)' for column in COLUMNS if has_paper)]
    body = []
    for row in rows:
        published = row.get('paper') or [None] * len(COLUMNS)
        paper = [number(value) for value in published if has_paper]
        spreads = []
        for column in COLUMNS:
            spreads.append(spread([run[column] for run in row['runs']]))
        body.append([row['method'], *spreads, str(len(row['runs'])), *paper])
    return header, body


def spread(values: Sequence[float | None]) -> str:
    r"""Format mean ± sample standard deviation, :math:`s = \sqrt{\sum_i (x_i - \bar x)^2 / (n - 1)}`.

    Args:
        values: one per seed, in percent; None where there is none.

    Returns:
        Two decimals; of one value the value alone, of none n/a.
    """
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return number(known[0] if known else None)
    return f'{statistics.mean(known):.2f} ± {statistics.stdev(known):.2f}'
