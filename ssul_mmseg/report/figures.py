"""Draw the figures of a report as SVG, in colours that follow the light or dark scheme of the page."""
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..work_dir.results import COLUMNS
from .collect import Row
from .pictures import data_uri

INK = '#123456'
"""Stands for the colour of text and axes, which the page's colour scheme decides."""
SCHEME = ('<style>svg{color:#3b4048}text{font-family:system-ui,-apple-system,"Segoe UI",sans-serif}'
          '@media (prefers-color-scheme:dark){svg{color:#c9d1d9}}</style>')
COLOURS = ('#2f74c0', '#d9822b', '#3d9970', '#b0498c', '#8c7a2f', '#7a6fd0')
"""Colours of lines, visible on white and on black."""
MARKS = ('o', 's', '^', 'D', 'v', 'P')
STYLE: dict[Any, Any] = {
    'svg.fonttype': 'none', 'svg.hashsalt': 'report', 'font.size': 11, 'font.family': 'sans-serif',
    'text.color': INK, 'axes.labelcolor': INK, 'axes.edgecolor': INK, 'xtick.color': INK, 'ytick.color': INK,
    'axes.spines.top': False, 'axes.spines.right': False, 'axes.linewidth': .8, 'legend.frameon': False,
    'axes.grid': True, 'axes.grid.axis': 'y', 'grid.color': INK, 'grid.alpha': .15, 'grid.linewidth': .8,
}
WIDTH, HEIGHT = 4.2, 2.7
"""Size of a figure in inches; a page shows an inch as 96 pixels."""
PIXELS = 96
SHORT, LINE = 14, .2
"""Letters of a name of which two stand side by side in a legend; inches that a line of it takes."""
CELL = .27
"""Inches that a class takes in a matrix."""
MOST_NUMBERS = 25
"""Classes up to which the cells of a matrix hold numbers."""
LETTER, MARGIN = .085, .3
"""Inches beside a matrix for each letter of the longest name, and for the rest."""
SHADES = LinearSegmentedColormap.from_list('shades', [(.16, .43, .73, .05), (.16, .43, .73, 1)])
"""From nearly transparent to opaque, so that 0 is as dark as the page."""


@dataclass(frozen=True)
class Chart:
    """A figure of the page.

    Args:
        title: its heading.
        caption: what it shows; where it is left out, why.
        image: data URI, '' where it is left out.
        width: in pixels; it is not drawn narrower if its text would be too small to read.
    """

    title: str
    caption: str
    image: str = ''
    width: int = 0


def curves(rows: Sequence[Row]) -> Chart:
    """MIoU after every task (Fig. 3a): of all classes, a line for each row; of one row also base and new."""
    lines = [(row.title, row.means('all')) for row in rows]
    caption = 'mIoU of all classes learned so far, after every task'
    if len(rows) == 1:
        lines = [(column, rows[0].means(column)) for column in COLUMNS]
        caption = 'mIoU of the base classes, the new ones, and all learned so far, after every task'
    if any(len(row.runs) > 1 for row in rows):
        caption += '; a band reaches from the least to the largest value over the seeds'
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure()
        for place, (name, values) in enumerate(lines):
            if values:
                tasks, colour = list(values), COLOURS[place % len(COLOURS)]
                axes.plot(tasks, [np.mean(values[task]) for task in tasks], color=colour, label=name, linewidth=2,
                          marker=MARKS[place % len(MARKS)], markersize=5)
                axes.fill_between(tasks, [min(values[task]) for task in tasks], [max(values[task]) for task in tasks],
                                  color=colour, alpha=.18, linewidth=0)
        _label(figure, axes, 'task', 'mIoU in %')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return Chart('mIoU per task', f'{caption}.', *_svg(figure))


def class_orders(rows: Sequence[Row]) -> Chart:
    """Spread of the final mIoU over class orders (Fig. 3b), a box for each method; seeds of an order are averaged."""
    title = 'mIoU over class orders'
    every: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.final:
            every[row.name].append(float(np.mean([final['all'] for final in row.final])))
    found = {name: values for name, values in every.items() if len(values) > 1}
    if not found:
        return Chart(title, 'Left out: it needs finished runs of at least two class orders of one method.')
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure()
        # Names of methods are long: boxes lie, one below the other.
        axes.boxplot(list(found.values()), tick_labels=list(found), widths=.45, orientation='horizontal',
                     boxprops=dict(color=INK), whiskerprops=dict(color=INK), capprops=dict(color=INK),
                     medianprops=dict(color=COLOURS[0], linewidth=2), showfliers=False)
        for place, values in enumerate(found.values(), start=1):
            axes.plot(values, [place] * len(values), 'o', color=COLOURS[0], alpha=.6, markersize=5)
        axes.invert_yaxis()
        axes.grid(axis='x')
        _label(figure, axes, 'mIoU of all classes in %', '', legend=False)
        counts = ', '.join(f'{name}: {len(values)}' for name, values in found.items())
        return Chart(title, f'mIoU of all classes after the last task, a point for each class order ({counts}); the '
                     'box holds the middle half of them, the line is the median.', *_svg(figure))


def memory_sizes(rows: Sequence[Row]) -> Chart:
    """Final mIoU against the memory size (Fig. 3c), a line for each method; without a memory the size is 0."""
    title = 'mIoU against memory size'
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for run in row.runs:
            if run.finished:
                # The run without a memory is the start of the line of the method that has one.
                method = run.document['method'].removesuffix('-M')
                found[method][run.memory_size].append(run.document['final']['all'])
    lines = {method: dict(sorted(sizes.items())) for method, sizes in found.items() if len([*filter(None, sizes)]) > 1}
    if not lines:
        return Chart(title, 'Left out: it needs finished runs of one method with at least two memory sizes.')
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure()
        for place, (method, sizes) in enumerate(lines.items()):
            spreads = [float(np.std(values, ddof=1)) if len(values) > 1 else 0. for values in sizes.values()]
            axes.errorbar(list(sizes), [np.mean(values) for values in sizes.values()], spreads, capsize=3,
                          color=COLOURS[place % len(COLOURS)], marker=MARKS[place % len(MARKS)], linewidth=2,
                          markersize=5, label=method)
        _label(figure, axes, 'images in the memory', 'mIoU of all classes in %')
        return Chart(title, 'mIoU of all classes after the last task; bars are the sample standard deviation over '
                     'runs. Size 0 is the method without a memory.', *_svg(figure))


def time_per_task(rows: Sequence[Row]) -> Chart:
    """Minutes of training and evaluation of each task."""
    return _bars(rows, 'Time per task', 'seconds', 60, 'minutes', 'Wall-clock time of training and evaluation; a run '
                 'that was interrupted counts from its last start')


def memory_per_task(rows: Sequence[Row]) -> Chart:
    """The most memory that each task used."""
    title = 'Memory per task'
    if not any(row.measure('peak_memory') for row in rows):
        return Chart(title, 'Left out: the runs did not keep how much memory their tasks used.')
    return _bars(rows, title, 'peak_memory', 2**30, 'GiB', 'The most memory that a task used: of the GPU, or, without '
                 'one, of the main process')


def _bars(rows: Sequence[Row], title: str, key: str, unit: float, name: str, caption: str) -> Chart:
    """A bar for each task and row, the mean over the runs."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure()
        width = .8 / len(rows)
        for place, row in enumerate(rows):
            values = row.measure(key)
            offset = (place - (len(rows) - 1) / 2) * width
            axes.bar([task + offset for task in values], [value / unit for value in values.values()], width * .9,
                     color=COLOURS[place % len(COLOURS)], label=row.title)
        _label(figure, axes, 'task', name, legend=len(rows) > 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return Chart(title, f'{caption}.', *_svg(figure))


def iou_map(row: Row) -> Chart:
    """IoU of each class after every task as a heat map."""
    values = row.iou()
    tasks = [f'task {task}' if values.shape[1] < 7 else str(task) for task in range(values.shape[1])]
    image = _matrix(values, row.classes, tasks, 2 * CELL)
    return Chart('IoU of each class', 'IoU in % of each class after every task; empty until the class is learned.',
                 *image)


def confusion_map(row: Row) -> Chart:
    """Which class is taken for which after the last task, as a matrix."""
    title, shares = f'Confusion after task {row.task}', row.confusion()
    if shares is None:
        return Chart(title, 'Left out: the run is of a version that did not keep it; evaluate the task again by '
                     'deleting its result.json and resuming.')
    percent = 100 * shares
    image = _matrix(np.where(percent < .5, np.nan, percent), row.classes, row.classes, CELL)
    return Chart(title, 'Share in % of the pixels of each class (row) that is taken for each class (column), empty '
                 'below 0.5; unknown counts as background. A class that no test pixel shows has an empty row.', *image)


def _matrix(values: np.ndarray, rows: Sequence[str], columns: Sequence[str], width: float) -> tuple[str, int]:
    """A matrix of percentages as shaded cells, with numbers where there are few; NaN is empty.

    Args:
        values: float (rows, columns).
        rows: their names.
        columns: their names.
        width: inches of a column; where it is narrow, names stand upright.
    """
    height, count = values.shape
    upright = width <= CELL
    names = LETTER * max(map(len, rows)) + MARGIN
    size = count * width + names, height * CELL + (names if upright else 2 * CELL)
    with matplotlib.rc_context({**STYLE, 'axes.grid': False, 'font.size': 9}):
        figure = Figure(figsize=size, layout='constrained')
        axes = figure.subplots()
        axes.pcolormesh(values, cmap=SHADES, vmin=0, vmax=100, edgecolors='none')
        axes.invert_yaxis()
        axes.set_yticks(np.arange(height) + .5, rows)
        axes.set_xticks(np.arange(count) + .5, columns, rotation=90 if upright else 0)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for (y, x), value in np.ndenumerate(values) if height <= MOST_NUMBERS else ():
            if not np.isnan(value):
                axes.text(x + .5, y + .5, f'{value:.0f}', ha='center', va='center', fontsize=8,
                          color='white' if value > 50 else INK)
        return _svg(figure)


def _figure() -> tuple[Figure, Axes]:
    """An empty figure and its axes."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout='constrained')
    return figure, figure.subplots()


def _label(figure: Figure, axes: Axes, x: str, y: str, legend: bool = True) -> None:
    """Label axes, and set a legend above them, for which the figure grows."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_axisbelow(True)
    if legend:
        names = axes.get_legend_handles_labels()[1]
        columns = 2 if max(map(len, names)) <= SHORT else 1
        axes.legend(loc='lower left', bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0, handlelength=1.6,
                    fontsize=10)
        figure.set_size_inches(WIDTH, HEIGHT + LINE * -(-len(names) // columns))


def _svg(figure: Figure) -> tuple[str, int]:
    """A figure as a data URI, and its width in pixels."""
    file = io.StringIO()
    # Without a date the same runs give the same page.
    figure.savefig(file, format='svg', transparent=True, metadata={'Date': None, 'Creator': None})
    text = file.getvalue().replace(INK, 'currentColor')
    start = text.index('>', text.index('<svg')) + 1
    content = text[:start] + SCHEME + text[start:]
    return data_uri(content.encode(), 'image/svg+xml'), round(figure.get_figwidth() * PIXELS)
