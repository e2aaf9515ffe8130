"""The images that a run keeps in its memory, as thumbnails by class."""
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageOps

from .. import components  # noqa: F401 - registers what a config may name
from ..datasets.image_files import decoding_faults
from ..datasets.memory import ExemplarMemory
from ..datasets.source import build_source
from ..engine.recorded_config import read_recorded_config
from ..engine.task_config import task_config
from ..errors import InputError
from ..work_dir.layout import MEMORY, task_dir
from .collect import ReportRun
from .pictures import photo

SIDE = 72
"""Longest side of a thumbnail, in pixels."""
MOST = 24
"""Thumbnails of one class; of more the number is given."""


@dataclass(frozen=True)
class ClassExemplars:
    """The exemplars that were chosen for one class.

    Args:
        name: of the class.
        images: id and data URI of each, at most :data:`MOST`.
        more: how many there are beside these.
    """

    name: str
    images: Sequence[tuple[str, str]]
    more: int


def exemplars_of(run: ReportRun) -> list[ClassExemplars]:
    """The exemplars after a run's last learned task, by class in the order of learning.

    Raises:
        InputError: it keeps none, or its images are not at hand.
    """
    if not run.memory_size:
        raise InputError('the run has no memory')
    task = max(run.tasks)
    memory = ExemplarMemory.read(task_dir(run.folder, task) / MEMORY)
    config = task_config(read_recorded_config(run.folder), task)
    folder = build_source(config.train_dataloader.dataset.dataset, test_mode=False).data_prefix['img_path']
    kept: dict[int, list[str]] = {}
    for exemplar in memory.exemplars:
        kept.setdefault(exemplar.label, []).append(exemplar.image)
    names = list(run.tasks[task]['IoU'])
    found = []
    for label, images in sorted(kept.items()):
        shown = [(image, _thumbnail(f'{folder}/{image}')) for image in sorted(images)[:MOST]]
        found.append(ClassExemplars(names[label], shown, len(images) - len(shown)))
    return found


def _thumbnail(file: str) -> str:
    """A small picture of an image file, turned as its EXIF tag says."""
    with decoding_faults(file, 'image'), Image.open(file) as image:
        return photo(ImageOps.exif_transpose(image), SIDE)
