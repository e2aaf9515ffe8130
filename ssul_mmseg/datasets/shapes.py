"""The embedded data set: eight shapes on textured backgrounds, drawn on first use, in VOC layout."""
import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from PIL import Image

from ..errors import InputError
from ..files import read_json, write_json, write_text
from ..tasks import BACKGROUND, IGNORE

CLASSES = ('disc', 'square', 'triangle', 'ring', 'cross', 'star', 'diamond', 'bar')
# Typical hue of each class, in degrees. Square and diamond, and ring and star, share theirs: there the form decides.
HUES = (0, 120, 45, 200, 280, 200, 120, 320)
PALETTE = ([0, 0, 0], [230, 60, 60], [60, 180, 75], [255, 190, 25], [70, 150, 240], [145, 30, 180], [70, 240, 240],
           [170, 255, 195], [240, 50, 230])
MARKER = 'shapes.json'
VERSION = 1


def make_shapes(root: str | Path, seed: int = 0, num_train: int = 600, num_test: int = 200, size: int = 96) -> None:
    """Draw the data set, unless it is there already.

    It appears whole or not at all: it is drawn beside ``root`` and renamed. Several processes may ask for it at once.

    Args:
        root: its folder.
        seed: every image is a function of seed, split and number.
        num_train: training images.
        num_test: test images.
        size: side of an image, in pixels.

    Raises:
        InputError: ``root`` is a folder of somebody else's, or cannot be written.
    """
    root = Path(root)
    wanted = dict(version=VERSION, seed=seed, num_train=num_train, num_test=num_test, size=size)
    if _is_made(root, wanted):
        return
    if root.exists() and any(root.iterdir()) and not (root / MARKER).is_file():
        raise InputError(f'{root} holds files that are not of the embedded data set; set data_root to another folder')
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f'.{root.name}_', dir=root.parent) as folder:
            made = Path(folder) / 'made'
            _draw_all(made, seed, dict(train=num_train, test=num_test), size)
            write_json(made / MARKER, wanted)
            if root.exists():
                with contextlib.suppress(FileNotFoundError):
                    os.rename(root, Path(folder) / 'old')
            os.rename(made, root)
    except OSError as error:
        # Another process may have put its own, equal one there meanwhile.
        if not _is_made(root, wanted):
            raise InputError(f'the embedded data set cannot be drawn into {root} ({error.strerror}); set data_root to '
                             'a folder that can be written') from error


def _is_made(root: Path, wanted: dict) -> bool:
    """Whether a whole data set with these parameters is there."""
    try:
        counts = [len(list((root / folder).iterdir())) for folder in ('JPEGImages', 'SegmentationClass', 'SaliencyMap')]
        return read_json(root / MARKER) == wanted and set(counts) == {wanted['num_train'] + wanted['num_test']}
    except (OSError, InputError):
        return False


def _draw_all(root: Path, seed: int, counts: dict[str, int], size: int) -> None:
    """Draw all images of all splits."""
    for folder in ('JPEGImages', 'SegmentationClass', 'SaliencyMap'):
        (root / folder).mkdir(parents=True)
    for number, (split, count) in enumerate(counts.items()):
        names = [f'{split}_{i:05d}' for i in range(count)]
        for i, name in enumerate(names):
            image, mask, salient = draw_scene(np.random.default_rng((seed, number, i)), size)
            Image.fromarray(image).save(root / 'JPEGImages' / f'{name}.jpg', quality=92)
            indexed = Image.fromarray(mask)
            indexed.putpalette([channel for colour in PALETTE for channel in colour])
            indexed.save(root / 'SegmentationClass' / f'{name}.png')
            Image.fromarray(salient).save(root / 'SaliencyMap' / f'{name}.png')
        write_text(root / 'ImageSets' / 'Segmentation' / f'{split}.txt', ''.join(f'{name}\n' for name in names))


def draw_scene(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one image: two to four objects of different classes, which may cover each other.

    Args:
        rng: source of all chance.
        size: side, in pixels.

    Returns:
        Image uint8 (size, size, 3) RGB, mask uint8 (size, size) with an ignored outline around every object, and a
        saliency map uint8 (size, size) of 0 and 255 that, as a detector's, is rough and now and then misses an object.
    """
    image = _background(rng, size)
    mask = np.full((size, size), BACKGROUND, np.uint8)
    salient = np.zeros((size, size), np.uint8)
    for label in rng.choice(len(CLASSES), rng.integers(2, 5), replace=False) + 1:
        form = _form(rng, CLASSES[label - 1], size)
        inside = form > 0
        image[inside] = _surface(rng, HUES[label - 1], size)[inside]
        outline = cv2.dilate(form, np.ones((3, 3), np.uint8)) > form
        mask[outline] = IGNORE
        mask[inside] = label
        if rng.random() > .05:
            rough = cv2.dilate(form, np.ones((3, 3), np.uint8)) if rng.random() < .5 else form
            salient[rough > 0] = 255
    light = cv2.resize(rng.uniform(.65, 1.2, (2, 2)).astype(np.float32), (size, size))[..., None]
    noisy = image * light + rng.normal(0, 10, image.shape)
    return noisy.clip(0, 255).astype(np.uint8), mask, salient


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Float (size, size, 3): smooth, weakly coloured blotches."""
    cells = rng.integers(3, 9)
    blotches = cv2.resize(rng.uniform(50, 190, (cells, cells, 1)).astype(np.float32), (size, size),
                          interpolation=cv2.INTER_CUBIC)[..., None]
    tint = cv2.resize(rng.normal(0, 28, (3, 3, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return blotches + tint


def _surface(rng: np.random.Generator, hue: float, size: int) -> np.ndarray:
    """Float (size, size, 3): the class's hue with jitter, and a faint grain."""
    jittered = (hue + rng.normal(0, 10)) % 360 / 2
    hsv = np.array([[[jittered, rng.uniform(110, 230), rng.uniform(120, 235)]]], np.uint8)
    colour = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)
    cells = rng.integers(6, 20)
    grain = cv2.resize(rng.normal(0, 22, (cells, cells, 1)).astype(np.float32), (size, size))[..., None]
    return colour + grain


def _form(rng: np.random.Generator, name: str, size: int) -> np.ndarray:
    """Uint8 (size, size), 1 inside an object of the class, at a random place, size and turn."""
    radius = rng.uniform(.11, .23) * size
    centre = rng.uniform(.6 * radius, size - .6 * radius, 2)
    turn = rng.uniform(0, 2 * np.pi) if name in ('triangle', 'star', 'bar') else rng.uniform(-.25, .25)
    form = np.zeros((size, size), np.uint8)
    if name in ('disc', 'ring'):
        cv2.circle(form, _point(centre), round(radius), 1, -1)
        if name == 'ring':
            cv2.circle(form, _point(centre), round(.5 * radius), 0, -1)
        return form
    corners = _corners(name) * radius
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    cv2.fillPoly(form, [np.round(corners @ rotation.T + centre).astype(np.int32)], 1)
    return form


def _point(centre: Sequence[float]) -> tuple[int, int]:
    """Pixel of a place."""
    return round(float(centre[0])), round(float(centre[1]))


def _corners(name: str) -> np.ndarray:
    """Corners (n, 2) of a polygon of radius about one."""
    if name == 'square':
        return np.array([[-.85, -.85], [.85, -.85], [.85, .85], [-.85, .85]])
    if name == 'diamond':
        return np.array([[0, -1.15], [.75, 0], [0, 1.15], [-.75, 0]])
    if name == 'triangle':
        return _polar(np.full(3, 1.15))
    if name == 'star':
        return _polar(np.where(np.arange(10) % 2, .5, 1.2))
    if name == 'bar':
        return np.array([[-1.3, -.35], [1.3, -.35], [1.3, .35], [-1.3, .35]])
    if name == 'cross':
        a, b = .36, 1.05
        return np.array([[-a, -b], [a, -b], [a, -a], [b, -a], [b, a], [a, a], [a, b], [-a, b], [-a, a], [-b, a],
                         [-b, -a], [-a, -a]])
    raise ValueError(name)


def _polar(radii: np.ndarray) -> np.ndarray:
    """Corners (n, 2) at equal angles."""
    angles = np.arange(len(radii)) * 2 * np.pi / len(radii)
    return radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


@DATASETS.register_module()
class ShapesDataset(BaseSegDataset):
    """A split of the embedded data set.

    Args:
        split: 'train' or 'test'.
        data_root: where it lies, or is drawn.
        seed: see :func:`make_shapes`.
        num_train: see :func:`make_shapes`.
        num_test: see :func:`make_shapes`.
        size: see :func:`make_shapes`.
        pipeline: mmseg transforms.
        test_mode: whether it is a test set.
    """

    METAINFO: ClassVar[dict] = dict(
        classes=('background', *CLASSES), palette=[list(colour) for colour in PALETTE])

    def __init__(self,
                 split: str = 'train',
                 data_root: str = 'data/shapes',
                 seed: int = 0,
                 num_train: int = 600,
                 num_test: int = 200,
                 size: int = 96,
                 pipeline: Sequence[dict] = (),
                 test_mode: bool = False) -> None:
        if split not in ('train', 'test'):
            raise InputError(f"ShapesDataset.split is {split!r}; choose 'train' or 'test'")
        make_shapes(data_root, seed, num_train, num_test, size)
        super().__init__(
            ann_file=f'ImageSets/Segmentation/{split}.txt', data_root=data_root, pipeline=list(pipeline),
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'), test_mode=test_mode)
