"""Draw one picture of test images: ground truth, and what runs predict after tasks of choice (Fig. 4 of the paper)."""
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .. import components  # noqa: F401 - registers what a config may name
from ..engine.recorded_config import read_recorded_config
from ..engine.run import Run
from ..engine.task_config import task_config
from ..errors import InputError
from ..scenario import BACKGROUND, IGNORE
from ..work_dir.files import write_atomically
from .collect import ReportRun, collect
from .strips import choose_images, load_whole, predict_after

CELL, TITLE, LEGEND_LINE = 1.6, .62, .24
"""Inches of a picture's side, of the titles above, and of a line of the legend below."""
DPI = 110
PAINT = .7
"""How much of a pixel's colour is that of its class; the photograph shows through the rest."""
STRIPES, STRIPE_EVERY = np.array([255, 255, 255]), 24
"""Colour of the stripes of unknown; a stripe every 24th of the longer side."""
IGNORED = np.array([224, 224, 224])
"""Colour of pixels that count nowhere."""
TITLE_LETTERS, LEGEND_COLUMNS = 22, 11
TASKS = re.compile(r'(?P<folder>.+):(?P<tasks>\d+(,\d+)*)')


@dataclass(frozen=True)
class Chosen:
    """Tasks of a run that are shown, each in a column.

    Args:
        run: the run.
        tasks: indices of learned tasks, ascending.
    """

    run: ReportRun
    tasks: Sequence[int]

    def titles(self) -> list[str]:
        """The method, and what has been learned since the column before."""
        titles, known = [], 1  # background
        for task in self.tasks:
            names = list(self.run.tasks[task]['IoU'])
            learned = f'{len(names) - 1} classes' if known == 1 else f'+ {", ".join(names[known:])}'
            titles.append('\n'.join([self.run.name, *textwrap.wrap(learned, TITLE_LETTERS)[:2]]))
            known = len(names)
        return titles


def draw_picture(arguments: Sequence[str], out: str | Path, images: int = 4) -> Path:
    """Draw a picture: a row for each test image, a column for each chosen task of each run.

    The images are those of the report's strips, see :func:`~ssul_mmseg.report.strips.choose_images`. Classes are
    painted over the photograph, unknown is striped.

    Args:
        arguments: runs of one scenario, ``WORK_DIR`` for all learned tasks or ``WORK_DIR:0,1,4`` for some.
        out: a PNG file.
        images: how many test images.

    Returns:
        The file.

    Raises:
        InputError: the runs cannot be shown together (see :func:`~ssul_mmseg.report.collect.collect`), one has not
            learned a task, its weights or data are not at hand, ``images`` is not positive, or the file cannot be
            written.
    """
    if images < 1:
        raise InputError(f'--images is {images}; give a positive number of images')
    out = Path(out)
    if out.suffix.lower() != '.png':
        raise InputError(f'--out is {out}; give a file that ends in .png')
    columns = _choose(arguments)
    config = read_recorded_config(columns[0].run.folder)
    data = Run(config).test_data(task_config(config, 0))
    palette = np.array(data.metainfo['palette'])
    shown = [load_whole(data, image) for image in choose_images(data, images)]
    photos = [np.ascontiguousarray(results['img'][..., ::-1]) for results in shown]
    titles = ['image', 'ground truth']
    cells = [photos, [paint(photo, results['gt_seg_map'], palette)
                      for photo, results in zip(photos, shown, strict=True)]]
    for chosen in columns:
        titles += chosen.titles()
        for found in predict_after(chosen.run, chosen.tasks, [results['img_path'] for results in shown]):
            cells.append([paint(prediction.pixels, prediction.labels, palette, prediction.unknown)
                          for prediction in found])
    figure = _draw(titles, cells, list(zip(data.metainfo['classes'], palette, strict=True))[1:])
    try:
        write_atomically(out, lambda file: figure.savefig(file, format='png', dpi=DPI))
    except InputError as error:
        raise InputError(f'{error.fault}; free space, or choose another file with --out') from error
    return out


def _choose(arguments: Sequence[str]) -> list[Chosen]:
    """Read the runs that arguments name, and the tasks that they choose."""
    folders, wanted = [], []
    for argument in arguments:
        parts = TASKS.fullmatch(argument)
        folders.append(parts['folder'] if parts else argument)
        wanted.append(sorted(map(int, parts['tasks'].split(','))) if parts else None)
    # The report sorts its runs; a picture shows them as they were given.
    by_path = {run.path: run for run in collect(list(dict.fromkeys(folders))).runs}
    columns = []
    for folder, tasks in zip(folders, wanted, strict=True):
        run = by_path[Path(folder)]
        missing = set(tasks or []) - set(run.tasks)
        if missing:
            raise InputError(f'the run in {folder} has not learned task {min(missing)}; it has learned '
                             f'{", ".join(map(str, sorted(run.tasks)))}')
        columns.append(Chosen(run, tasks or sorted(run.tasks)))
    return columns


def paint(photo: np.ndarray, labels: np.ndarray, palette: np.ndarray, unknown: np.ndarray | None = None) -> np.ndarray:
    """Paint classes over a photograph.

    Args:
        photo: uint8 (H, W, 3) RGB.
        labels: uint8 (H, W): background 0, classes 1..N, IGNORE.
        palette: integer (N + 1, 3) RGB, colours by label.
        unknown: bool (H, W), pixels that are unknown.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    colours = np.zeros((256, 3))
    colours[:len(palette)], colours[IGNORE] = palette, IGNORED
    painted = (labels != BACKGROUND)[..., None] * PAINT
    picture = photo * (1 - painted) + colours[labels] * painted
    if unknown is not None:
        y, x = np.indices(labels.shape)
        period = max(4, max(labels.shape) // STRIPE_EVERY)
        picture[unknown & ((x + y) % period < period // 2)] = STRIPES
    return picture.round().astype(np.uint8)


def _draw(titles: Sequence[str], cells: Sequence[Sequence[np.ndarray]],
          legend: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """Put the pictures of each column under its title, and the colours of the classes below."""
    rows, columns = len(cells[0]), len(cells)
    lines = -(-(len(legend) + 1) // LEGEND_COLUMNS)
    width, below = columns * CELL, (lines + .5) * LEGEND_LINE
    height = TITLE + rows * CELL + below
    with matplotlib.rc_context({'font.size': 8, 'font.family': 'sans-serif', 'hatch.linewidth': 2}):
        figure = Figure(figsize=(width, height), facecolor='white')
        grid = figure.subplots(rows, columns, squeeze=False)
        figure.subplots_adjust(0, below / height, 1, 1 - TITLE / height, .04, .04)
        for column, title in enumerate(titles):
            for row in range(rows):
                _show(grid[row, column], cells[column][row])
            grid[0, column].set_title(title, fontsize=8)
        patches = [Patch(color=tuple(colour / 255), label=name) for name, colour in legend]
        patches.append(Patch(facecolor='#999999', edgecolor='white', hatch='///', label='unknown'))
        figure.legend(handles=patches, loc='lower center', ncols=LEGEND_COLUMNS, frameon=False, handlelength=1.2,
                      columnspacing=1.2)
    return figure


def _show(axes: Axes, picture: np.ndarray) -> None:
    """Show a picture without axes."""
    axes.imshow(picture, interpolation='nearest' if max(picture.shape) < CELL * DPI else 'auto')
    axes.set_axis_off()
