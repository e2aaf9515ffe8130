"""Make the embedded data set in VOC layout on first use, whole or not at all."""
import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from PIL import Image

from ...errors import InputError
from ...scenario import IGNORE
from ...work_dir.files import read_json, write_json, write_text
from .drawing import SHAPES, draw

NUM_TRAIN, NUM_TEST, SIZE = 800, 200, 96
SMALLEST_SIZE = 48
VERSION = 2
"""Raise it when the drawing changes: a data set of another version is made again."""
SPLITS = ('train', 'test')
MARKER = 'shapes.json'
"""The file that is written last: with it a folder is whole, and ours."""
IMAGES, MASKS, SALIENCY, LISTS = 'JPEGImages', 'SegmentationClass', 'SaliencyMap', 'ImageSets/Segmentation'
PALETTE = [[0, 0, 0], *(shape.colour for shape in SHAPES.values())]


@DATASETS.register_module()
class ShapesDataset(BaseSegDataset):
    """Eight shapes told apart by hue, form and texture, two to four of them in an image; made on first use.

    Args:
        split: 'train' or 'test'.
        data_root: folder of the data set. Both splits lie there: give both the same arguments.
        seed: seed of the whole data set.
        num_train: number of training images.
        num_test: number of test images.
        size: height and width of the images, in pixels.
        pipeline: mmseg's transforms.
        test_mode: whether this is a test set.

    Raises:
        InputError: an argument is out of range, or the data set cannot be made (see :func:`make_shapes`).
    """

    METAINFO: ClassVar[dict] = dict(classes=('background', *SHAPES), palette=PALETTE)

    def __init__(self,
                 split: str = 'train',
                 data_root: str = 'data/shapes',
                 seed: int = 0,
                 num_train: int = NUM_TRAIN,
                 num_test: int = NUM_TEST,
                 size: int = SIZE,
                 pipeline: Sequence[dict | Callable] = (),
                 test_mode: bool = False) -> None:
        if split not in SPLITS:
            raise InputError(f'ShapesDataset.split is {split!r}; choose one of {", ".join(SPLITS)}')
        make_shapes(data_root, seed, num_train, num_test, size)
        super().__init__(
            ann_file=f'{LISTS}/{split}.txt', data_root=str(data_root), img_suffix='.jpg', seg_map_suffix='.png',
            data_prefix=dict(img_path=IMAGES, seg_map_path=MASKS), pipeline=list(pipeline), test_mode=test_mode)


def make_shapes(root: str | Path, seed: int = 0, num_train: int = NUM_TRAIN, num_test: int = NUM_TEST,
                size: int = SIZE) -> None:
    """Make the data set in a folder, whole or not at all; where it is whole already, do nothing.

    A data set that lacks files, or of another version of the drawing, is made again. Several processes may call this at
    the same time: one makes the data set, the others wait for it.

    Args:
        root: the folder, in VOC layout, with saliency maps in ``SaliencyMap``.
        seed: non-negative; the same arguments give the same files.
        num_train: number of training images, at least 1.
        num_test: number of test images, at least 1.
        size: height and width of the images in pixels, at least 48.

    Raises:
        InputError: an argument is out of range, the folder holds files that are not of this data set or one made with
            other arguments, or the disk is full or cannot be written to.
    """
    for name, value, least in (('seed', seed, 0), ('num_train', num_train, 1), ('num_test', num_test, 1),
                               ('size', size, SMALLEST_SIZE)):
        if type(value) is not int or value < least:
            raise InputError(f'ShapesDataset.{name} is {value!r}; it must be a whole number of at least {least}')
    parameters = dict(version=VERSION, seed=seed, num_train=num_train, num_test=num_test, size=size)
    place = Path(root).resolve()  # a link to another disk stays a link
    if _is_whole(place, parameters):
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _lock(place.parent):
            if _is_whole(place, parameters):
                return
            _refuse_foreign(place)
            _refuse_other_arguments(place, parameters)
            with tempfile.TemporaryDirectory(prefix=f'.{place.name}.', dir=place.parent) as temporary:
                new, old = Path(temporary, 'new'), Path(temporary, 'old')
                _write(new, parameters)
                if (place / MARKER).exists():
                    place.rename(old)
                try:
                    new.rename(place)
                except OSError:
                    # Where the file system knows no locks, another process may have been faster.
                    if not _is_whole(place, parameters):
                        raise
    except OSError as error:
        raise InputError(f'the data set shapes cannot be made in {root} ({error.strerror or error}); free space or set '
                         'data_root to another folder') from error


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one process at a time through; the lock leaves no file behind and ends with its process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems know no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _names(split: str, parameters: dict) -> list[str]:
    """Ids of a split's images."""
    return [f'{split}_{i:06d}' for i in range(parameters[f'num_{split}'])]


def _is_whole(root: Path, parameters: dict) -> bool:
    """Whether the marker holds the parameters and every file is there and not empty."""
    try:
        if read_json(root / MARKER) != parameters:
            return False
        files = [root / LISTS / f'{split}.txt' for split in SPLITS]
        for split in SPLITS:
            for name in _names(split, parameters):
                files += [root / IMAGES / f'{name}.jpg', root / MASKS / f'{name}.png', root / SALIENCY / f'{name}.png']
        return all(file.stat().st_size for file in files)
    except (InputError, OSError):
        return False


def _refuse_foreign(root: Path) -> None:
    """Refuse a folder with files that would be lost if the data set were made there."""
    if not os.path.lexists(root):
        return
    if not root.is_dir():
        raise InputError(f'{root} is no folder; set data_root of ShapesDataset to a new folder')
    held = {path.name for path in root.iterdir()}
    ours = {MARKER, IMAGES, MASKS, SALIENCY, LISTS.partition('/')[0]} if MARKER in held else set()
    foreign = sorted(name for name in held - ours if not (ours and name.startswith('class_index_')))
    if foreign:
        raise InputError(f'{root} holds {foreign[0]!r}, which is not of the data set shapes, and is left as it is; '
                         'move it away or set data_root of ShapesDataset to a new folder')


def _refuse_other_arguments(root: Path, parameters: dict) -> None:
    """Refuse to replace a data set that another run, or the other split, may be using."""
    try:
        made = read_json(root / MARKER)
    except InputError:
        return  # none, or a torn one
    if not isinstance(made, dict) or made.get('version') != parameters['version']:
        return
    differing = [f'{key} {made.get(key)}, not {value}' for key, value in parameters.items() if made.get(key) != value]
    if differing:
        raise InputError(f'{root} holds the data set shapes with {"; ".join(differing)}, and is left as it is; set '
                         'data_root to another folder, and give both splits the same arguments')


def _write(root: Path, parameters: dict) -> None:
    """Write all files, the marker last."""
    for folder in (IMAGES, MASKS, SALIENCY):
        (root / folder).mkdir(parents=True)
    colours = np.zeros((256, 3), np.uint8)
    colours[:len(PALETTE)] = PALETTE
    colours[IGNORE] = 224, 224, 192  # VOC's colour of ignored pixels
    for number, split in enumerate(SPLITS):
        names = _names(split, parameters)
        for i, name in enumerate(names):
            rng = np.random.default_rng((parameters['seed'], number, i))
            image, labels, salient = draw(rng, parameters['size'])
            Image.fromarray(image).save(root / IMAGES / f'{name}.jpg', quality=92)
            mask = Image.fromarray(labels)
            mask.putpalette(colours.tobytes())
            mask.save(root / MASKS / f'{name}.png')
            Image.fromarray(salient).save(root / SALIENCY / f'{name}.png')
        write_text(root / LISTS / f'{split}.txt', '\n'.join(names) + '\n')
    write_json(root / MARKER, parameters)
