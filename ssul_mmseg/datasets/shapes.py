"""The embedded data set: eight shapes on textured backgrounds in VOC layout, drawn on first use."""
import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import cv2
import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from PIL import Image

from ..errors import InputError
from ..files import read_json, write_json, write_text
from ..tasks import BACKGROUND, IGNORE

NUM_TRAIN, NUM_TEST, SIZE = 800, 200, 96
SMALLEST_SIZE = 48
VERSION = 2
"""Raise it when the drawing changes: a data set of another version is made again."""
SPLITS = ('train', 'test')
MARKER = 'shapes.json'
"""The file that is written last: with it a folder is whole, and ours."""
IMAGES, MASKS, SALIENCY, LISTS = 'JPEGImages', 'SegmentationClass', 'SaliencyMap', 'ImageSets/Segmentation'
SALIENT = 255
LARGEST_LOSS = 0.3
"""The share of an object that each object drawn after it may hide."""


class Shape(NamedTuple):
    """What a class looks like, as polygons in coordinates in which the object has about radius 1.

    Args:
        hue: typical hue in degrees.
        scale: makes up for an outline of little area.
        colour: RGB in the masks' palette.
        outline: polygons (n, 2); where two overlap is a hole.
        texture: polygons of the dark part, cut off at the outline.
    """

    hue: float
    scale: float
    colour: list[int]
    outline: list[np.ndarray]
    texture: Sequence[np.ndarray] = ()


def _star(tips: int, notch: float) -> np.ndarray:
    """A star with notches of radius ``notch`` between its tips; with cos(pi / tips) it is a regular polygon."""
    angles = np.arange(2 * tips) * np.pi / tips
    radii = np.tile([1, notch], tips)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _box(left: float, top: float, width: float, height: float) -> np.ndarray:
    """A rectangle."""
    return np.array([left, top]) + np.array([[0, 0], [width, 0], [width, height], [0, height]])


def _cross(half: float) -> np.ndarray:
    """Two crossed bars of width ``2 * half``."""
    arm = np.array([[half, half], [half, 1], [-half, 1]])
    return np.concatenate([arm @ np.linalg.matrix_power([[0, 1], [-1, 0]], turn) for turn in range(4)])


_CIRCLE = _star(24, 1)
SHAPES = {
    'disc': Shape(0, 1, [220, 60, 50], [_CIRCLE]),
    'square': Shape(215, 1.2, [60, 120, 230], [_star(4, np.cos(np.pi / 4))]),
    'triangle': Shape(55, 1.4, [230, 210, 60], [_star(3, 0.5)]),
    'star': Shape(265, 1.4, [130, 80, 220], [_star(5, 0.5)]),
    'ring': Shape(110, 1.1, [80, 190, 70], [_CIRCLE, 0.42 * _CIRCLE]),
    'cross': Shape(310, 1.15, [220, 80, 200], [_cross(0.38)]),
    'ellipse': Shape(170, 1.2, [70, 210, 190], [_CIRCLE * [1, 0.7]],
                     [_box(left, -1, 0.25, 2) for left in (-0.9, -0.4, 0.1, 0.6)]),
    # The hue of the square: form and texture decide.
    'hexagon': Shape(215, 1.1, [30, 40, 130], [_star(6, np.cos(np.pi / 6))],
                     [_box(i / 2.2, j / 2.2, 1 / 2.2, 1 / 2.2) for i in range(-3, 3) for j in range(-3, 3)
                      if (i + j) % 2]),
}
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

    A data set made with other arguments, or one that lacks files, is made again. Several processes may call this at
    the same time: one makes the data set, the others wait for it.

    Args:
        root: the folder, in VOC layout, with saliency maps in ``SaliencyMap``.
        seed: non-negative; the same arguments give the same files.
        num_train: number of training images, at least 1.
        num_test: number of test images, at least 1.
        size: height and width of the images in pixels, at least 48.

    Raises:
        InputError: an argument is out of range, the folder holds files that are not of this data set, or the disk is
            full or cannot be written to.
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
        with _locked(place.parent):
            if _is_whole(place, parameters):
                return
            _refuse_foreign(place)
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
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time through; it leaves no file behind, and ends with the process."""
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


def draw(rng: np.random.Generator, size: int = SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one image.

    Args:
        rng: source of all that varies.
        size: height and width, in pixels.

    Returns:
        image uint8 (size, size, 3) RGB; labels uint8 (size, size) of two to four classes, background, and IGNORE on a
        line of one pixel around the objects; saliency map uint8 (size, size), 255 on what a detector finds, else 0.
    """
    classes = rng.choice(len(SHAPES), size=rng.integers(2, 5), replace=False)
    image = _background(rng, size)
    objects = np.full((size, size), -1)
    areas = []
    for place, index in enumerate(classes):
        shape = list(SHAPES.values())[index]
        cover, texture, objects = _placed(rng, shape, objects, areas)
        image += cover[..., None] * (_surface(rng, shape, texture) - image)
        areas.append(np.count_nonzero(objects == place))
    # Light falls in from one side; then the noise of a sensor.
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    light = 1 + 0.18 * (np.cos(angle) * ramp + np.sin(angle) * ramp[:, None])
    image = image * light[..., None] + rng.normal(0, 0.03, image.shape)
    labels = np.where(objects < 0, BACKGROUND, classes[objects] + 1).astype(np.uint8)
    border = cv2.dilate(labels, np.ones((3, 3), np.uint8)) != labels
    salient = _saliency(rng, objects, areas)
    return (image.clip(0, 1) * 255).astype(np.uint8), np.where(border, IGNORE, labels).astype(np.uint8), salient


def _field(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise in about -1 to 1, float32 (size, size), with ``cells`` bumps along a side."""
    return cv2.resize(rng.uniform(-1, 1, (cells, cells)).astype(np.float32), (size, size),
                      interpolation=cv2.INTER_CUBIC)


def _rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Float32 (H, W, 3) in 0 to 1 of hue in degrees, saturation and value (H, W)."""
    hsv = np.stack([hue % 360, np.clip(saturation, 0, 1), np.clip(value, 0, 1)], axis=-1)
    return cv2.cvtColor(hsv.astype(np.float32), cv2.COLOR_HSV2RGB)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """A pale, mottled and grained surface with faint strokes, float32 (size, size, 3)."""
    y, x = np.mgrid[:size, :size] / size
    angle = rng.uniform(0, np.pi)
    grain = np.sin((np.cos(angle) * x + np.sin(angle) * y) * rng.uniform(20, 90) + 3 * _field(rng, size, 5))
    strokes = np.zeros((size, size), np.float32)
    for start, end in rng.integers(0, size, (5, 2, 2)).tolist():
        cv2.line(strokes, start, end, rng.uniform(-0.15, 0.15), int(rng.integers(1, 4)), cv2.LINE_AA)
    value = rng.uniform(0.35, 0.7) + 0.12 * _field(rng, size, 6) + rng.uniform(0.02, 0.1) * grain + strokes
    saturation = 0.16 + 0.1 * _field(rng, size, 4) + 0.3 * np.abs(strokes)
    return _rgb(rng.uniform(0, 360) + 60 * _field(rng, size, 4), saturation, value)


def _surface(rng: np.random.Generator, shape: Shape, texture: np.ndarray) -> np.ndarray:
    """The colours of an object, float32 (size, size, 3); ``texture`` (size, size) is 1 where it is dark."""
    size = len(texture)
    hue = shape.hue + rng.normal(0, 7) + 5 * _field(rng, size, 8)
    saturation = rng.uniform(0.5, 0.8) + 0.1 * _field(rng, size, 8)
    value = rng.uniform(0.65, 0.95) + 0.12 * _field(rng, size, 8) - 0.4 * texture
    return _rgb(hue, saturation, value)


def _placed(rng: np.random.Generator, shape: Shape, objects: np.ndarray, areas: Sequence[int],
            ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find a place for one more object where it hides little of those before it.

    Returns:
        its opacity and its texture, float32 (size, size), and ``objects`` with its number.
    """
    size = len(objects)
    radius = size * rng.uniform(0.11, 0.21)
    while True:
        centre = rng.uniform(0.12, 0.88, 2) * size
        angle = rng.uniform(0, 2 * np.pi)
        turn = radius * shape.scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        cover = _filled(shape.outline, turn, centre, size)
        after = np.where(cover > 0.5, len(areas), objects)
        if all(np.count_nonzero(after == i) >= (1 - LARGEST_LOSS) * area for i, area in enumerate(areas)):
            return cover, _filled(shape.texture, turn, centre, size), after
        radius = max(0.95 * radius, size / 16)


def _filled(polygons: Sequence[np.ndarray], turn: np.ndarray, centre: np.ndarray, size: int) -> np.ndarray:
    """Cover of turned and scaled polygons, float32 (size, size) in 0 to 1, with smooth edges."""
    canvas = np.zeros((size, size), np.uint8)
    bits = 4  # of a coordinate's fraction
    points = [np.round((polygon @ turn + centre) * 2**bits).astype(np.int32) for polygon in polygons]
    cv2.fillPoly(canvas, points, 255, cv2.LINE_AA, bits)
    return canvas.astype(np.float32) / 255


def _saliency(rng: np.random.Generator, objects: np.ndarray, areas: Sequence[int]) -> np.ndarray:
    """What a class-agnostic detector might find: rough edges, too wide or too narrow, now and then an object missed."""
    size = len(objects)
    found = objects >= 0
    if rng.random() < 0.1:
        found &= objects != np.argmin(areas)
    soft = cv2.GaussianBlur(found.astype(np.float32), (0, 0), size / 64)
    threshold = np.clip(0.5 + rng.uniform(-0.25, 0.25) + 0.3 * _field(rng, size, 16), 0.1, 0.9)
    return np.where(soft > threshold, SALIENT, 0).astype(np.uint8)
