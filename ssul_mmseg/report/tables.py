"""Results as Markdown tables. Every function returns text; printing is the caller's."""
import statistics
from collections.abc import Sequence

COLUMNS = ('base', 'new', 'all')
SHOWN_CLASSES = 3


def number(value: float | None) -> str:
    """A percentage with the paper's two decimals; n/a where there is none."""
    return 'n/a' if value is None else f'{value:.2f}'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, columns aligned; all but the first are right-aligned."""
    widths = [max(len(str(row[i])) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return '| ' + ' | '.join(
            f'{cell:<{width}}' if i == 0 else f'{cell:>{width}}'
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))) + ' |'

    rule = '|' + '|'.join('-' * (width + 2) if i == 0 else '-' * (width + 1) + ':'
                          for i, width in enumerate(widths)) + '|'
    return '\n'.join([line(header), rule, *map(line, rows)])


def class_list(names: Sequence[str]) -> str:
    """Names of a task's classes, the many shortened."""
    if len(names) <= SHOWN_CLASSES:
        return ', '.join(names)
    return f'{", ".join(names[:SHOWN_CLASSES])} and {len(names) - SHOWN_CLASSES} more'


def scenario_table(results: dict) -> str:
    """One run: a row per task in the paper's columns, then the IoU of every class after the last.

    Args:
        results: a results document of ``report.collect``.
    """
    title = (f'{results["method"]} on {results["dataset"]} {results["scenario"]}, {results["setting"]}, '
             f'seed {results["seed"]}: mIoU in percent')
    header = ('task', 'classes', 'images', 'memory', *COLUMNS, 'forgetting', 'minutes')
    rows = [(str(task['task']), class_list(task['classes']), str(task['num_images']), str(task['memory']),
             *(number(task['mIoU'][column]) for column in COLUMNS), number(task['forgetting']),
             f'{task["seconds"] / 60:.1f}') for task in results['tasks']]
    last = results['tasks'][-1]['IoU'] if results['tasks'] else {}
    classes = table(('class', 'IoU'), [(name, number(value)) for name, value in last.items()])
    return f'{title}\n\n{table(header, rows)}\n\nAfter the last task:\n\n{classes}\n'


def comparison_table(rows: Sequence[dict]) -> str:
    """Methods side by side: mean and, over several seeds, sample standard deviation.

    Args:
        rows: each with ``method``, ``runs`` (mIoU by column, one per seed) and ``paper`` ([base, new, all] or None).
    """
    has_paper = any(row.get('paper') for row in rows)
    header = ('method', *COLUMNS, 'seeds', *(f'{column} (paper)' for column in COLUMNS if has_paper))
    body = []
    for row in rows:
        paper = [number(value) for value in row.get('paper') or [None] * 3] if has_paper else []
        body.append((row['method'], *(spread([run[column] for run in row['runs']]) for column in COLUMNS),
                     str(len(row['runs'])), *paper))
    return table(header, body) + '\n'


def spread(values: Sequence[float | None]) -> str:
    """Mean ± sample standard deviation."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return number(known[0] if known else None)
    return f'{statistics.mean(known):.2f} ± {statistics.stdev(known):.2f}'
