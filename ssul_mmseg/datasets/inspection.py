"""Read all images, masks and saliency maps of a data set, and gather what is in them and all that is wrong."""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..errors import InputError
from ..machine import usable_cores
from .class_index import ClassIndex
from .scan import CHUNK, FEW_MASKS, MANY_MASKS, MASK_VALUES, in_processes, progress_bar
from .source import Source, saliency_path
from .transforms import LabelAugmentation, LoadImage, LoadLabels

Paths = tuple[str, str, str]
"""An image, its mask and its saliency map."""


@dataclass
class ImageFacts:
    """What was found in an image and its mask.

    Args:
        size: (height, width) as shown; None where the image cannot be read.
        pixels: number of pixels of each label, and how many of these are salient; {} where the mask cannot be read.
        image_faults: what is wrong with the image or its saliency map.
        mask_faults: what is wrong with the mask.
    """

    size: tuple[int, int] | None = None
    pixels: dict[int, tuple[int, int]] = field(default_factory=dict)
    image_faults: list[str] = field(default_factory=list)
    mask_faults: list[str] = field(default_factory=list)


def inspect(source: Source, label_table: np.ndarray, saliency: str | None, saliency_dir: str,
            workers: int | None = None) -> list[ImageFacts]:
    """Read every image of a data set by the transforms of its training, on several cores.

    Args:
        source: the data set.
        label_table: int16 (256,), label by mask value.
        saliency: as in ``LabelAugmentation``.
        saliency_dir: folder of the saliency maps, below the data root.
        workers: processes; default: one for each core that this process may use.

    Returns:
        The facts of each image, in the order of the data set.
    """
    infos = map(source.get_data_info, range(len(source)))
    paths = [(info['img_path'], info['seg_map_path'], saliency_path(source, saliency_dir, place))
             for place, info in enumerate(infos)]
    chunks = [paths[start:start + CHUNK] for start in range(0, len(paths), CHUNK)]
    workers = usable_cores() if workers is None else workers
    found: list[ImageFacts] = []
    with progress_bar(len(paths) >= MANY_MASKS) as progress:
        bar = progress.add_task('Reading images and masks', total=len(paths))
        read = partial(_inspect_chunk, label_table=label_table, saliency=saliency)
        for facts in in_processes(read, chunks, workers if len(paths) >= FEW_MASKS else 1):
            found += facts
            progress.update(bar, advance=len(facts), refresh=True)
    return found


def _inspect_chunk(paths: Sequence[Paths], label_table: np.ndarray, saliency: str | None) -> list[ImageFacts]:
    """Read some images."""
    return [_inspect(place, label_table, saliency) for place in paths]


def _inspect(paths: Paths, label_table: np.ndarray, saliency: str | None) -> ImageFacts:
    """Read an image, its mask, and its saliency map where there is one."""
    facts = ImageFacts()
    results: dict[str, Any] = dict(img_path=paths[0], seg_map_path=paths[1], saliency_path=paths[2], seg_fields=[],
                                   label_table=label_table)
    try:
        LoadImage()(results)
        facts.size = results['img_shape']
    except InputError as error:
        facts.image_faults.append(error.sentence)
    try:
        LoadLabels()(results)  # without an image it leaves out the comparison of sizes
    except InputError as error:
        facts.mask_faults.append(error.sentence)
        return facts
    labels = results['gt_seg_map']
    salient = np.zeros(labels.shape, bool)
    try:
        salient = LabelAugmentation(saliency).salient(results)
    except InputError as error:
        facts.image_faults.append(error.sentence)
    total, marked = (np.bincount(part, minlength=MASK_VALUES).tolist() for part in (labels.ravel(), labels[salient]))
    facts.pixels = {label: (total[label], marked[label]) for label in np.flatnonzero(total).tolist()}
    return facts


def label_index(facts: Iterable[ImageFacts]) -> ClassIndex:
    """Which labels each image holds; an image whose mask cannot be read holds none."""
    held = np.array([np.isin(np.arange(MASK_VALUES), list(image.pixels)) for image in facts], dtype=bool)
    return ClassIndex(np.packbits(held.reshape(-1, MASK_VALUES), axis=1))
