"""Write pictures of what a task is trained on: image, mask, saliency and labels, with a legend."""
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..datasets.label_sheet import colour_table, draw_labels, draw_legend, draw_strip, stack, zoom_of
from ..errors import InputError
from ..scenario import IGNORE, UNKNOWN
from ..work_dir.files import write_atomically
from .label_samples import LabelSample, TaskLabels
from .run import Run

SHEET = 'sheet.png'
SHOWN = 6
"""How many labels a line of text counts up."""


def write_pictures(run: Run, task: int, labels: TaskLabels, out: str | Path) -> Path:
    """Write a strip and the trained labels of each image, and a sheet of all.

    Args:
        run: the run.
        task: index of the task.
        labels: what it is trained on.
        out: a folder; it is made where it is missing.

    Returns:
        The sheet.

    Raises:
        InputError: a file cannot be written; those that were are removed.
    """
    out, strips = Path(out), []
    files: dict[Path, Image.Image] = {}
    for place, sample in enumerate(labels.samples):
        name = f'{place:03d}_{Path(sample.image).stem}'
        strips.append(strip_of(sample, labels))
        files[out / f'{name}.png'] = strips[-1]
        files[out / f'{name}_labels.png'] = _indexed(sample.trained, labels.palette)
    files[out / SHEET] = sheet_of(run, task, labels, strips)
    written: list[Path] = []
    try:
        for path, image in files.items():
            content = io.BytesIO()
            image.save(content, 'PNG')
            write_atomically(path, _writer(content))
            written.append(path)
    except InputError:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return out / SHEET


def _writer(content: io.BytesIO) -> Callable:
    """What writes some bytes to an open file."""
    return lambda file: file.write(content.getbuffer())


def strip_of(sample: LabelSample, labels: TaskLabels) -> Image.Image:
    """Image, mask, saliency and trained labels of one image, side by side."""
    zoom = zoom_of(sample.trained.shape)
    salient = np.where(sample.salient, IGNORE, 0).astype(np.uint8)
    panes = [
        ('image', sample.pixels.repeat(zoom, 0).repeat(zoom, 1)),
        ('mask, all classes', draw_labels(sample.mask, labels.palette, zoom=zoom)),
        ('saliency', np.repeat(salient.repeat(zoom, 0).repeat(zoom, 1)[..., None], 3, axis=2)),
        ('labels that are trained', draw_labels(sample.trained, labels.palette, sample.changed, zoom)),
    ]
    return draw_strip(panes, caption(sample, labels.classes))


def caption(sample: LabelSample, classes: Sequence[str]) -> str:
    """An image's name, and the share of each label in its pixels, largest first; pseudo-labels are counted apart."""
    names = {UNKNOWN: 'unknown', IGNORE: 'ignored'}
    shares: list[tuple[float, str]] = []
    for label in np.unique(sample.trained).tolist():
        name = names.get(label) or classes[label]
        for pseudo, prefix in ((False, ''), (True, 'pseudo-label ')):
            share = ((sample.trained == label) & (sample.changed == pseudo)).mean()
            if share:
                shares.append((float(share), f'{prefix}{name} {share:.1%}'))
    listed = [text for _, text in sorted(shares, key=lambda entry: -entry[0])]
    more = f' and {len(listed) - SHOWN} more' if len(listed) > SHOWN else ''
    kind = 'exemplar' if sample.replayed else 'image of the task'
    return f'{sample.image} ({kind}, view {sample.view}): {", ".join(listed[:SHOWN])}{more}'


def sheet_of(run: Run, task: int, labels: TaskLabels, strips: Sequence[Image.Image]) -> Image.Image:
    """All strips below each other, under a title, with a legend of what occurs in them."""
    occurring: set[int] = set()
    for sample in labels.samples:
        occurring.update(np.unique(sample.mask).tolist(), np.unique(sample.trained).tolist())
    pseudo = any(sample.changed.any() for sample in labels.samples)
    legend = draw_legend(occurring, labels.classes, labels.palette, max(strip.width for strip in strips), pseudo)
    return stack([legend, *strips], title_of(run, task, labels))


def title_of(run: Run, task: int, labels: TaskLabels) -> str:
    """What the task is, and where its pseudo-labels come from."""
    scenario = run.scenario
    learns = ', '.join(labels.classes[label] for label in scenario.tasks[task])
    source = f'pseudo-labels of {run.folder(task - 1)}' if labels.has_old else 'no pseudo-labels'
    return (f'task {task} of {run.config.dataset_name} {scenario.name}, {scenario.setting}, saliency '
            f'{run.config.saliency!r}, {source}; learns {learns}')


def _indexed(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> Image.Image:
    """An indexed image whose values are labels."""
    image = Image.fromarray(labels)
    image.putpalette(colour_table(palette).tobytes())
    return image
