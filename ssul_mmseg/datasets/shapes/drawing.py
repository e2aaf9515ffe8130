"""Draw the pictures of the embedded data set, their labels, and the saliency maps that a detector might find."""
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np

from ...scenario import BACKGROUND, IGNORE

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
                     [_box(i / 2.2, j / 2.2, 1 / 2.2, 1 / 2.2) for i, j in product(range(-3, 3), repeat=2)
                      if (i + j) % 2]),
}


def draw(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    areas: list[int] = []
    for place, index in enumerate(classes):
        shape = list(SHAPES.values())[index]
        cover, texture, objects = _place(rng, shape, objects, areas)
        image += cover[..., None] * (_surface(rng, shape, texture) - image)
        areas.append(int(np.count_nonzero(objects == place)))
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


def _place(rng: np.random.Generator, shape: Shape, objects: np.ndarray, areas: Sequence[int],
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
        cover = _fill(shape.outline, turn, centre, size)
        after = np.where(cover > 0.5, len(areas), objects)
        if all(np.count_nonzero(after == i) >= (1 - LARGEST_LOSS) * area for i, area in enumerate(areas)):
            return cover, _fill(shape.texture, turn, centre, size), after
        radius = max(0.95 * radius, size / 16)


def _fill(polygons: Sequence[np.ndarray], turn: np.ndarray, centre: np.ndarray, size: int) -> np.ndarray:
    """Draw turned and scaled polygons: their cover, float32 (size, size) in 0 to 1, with smooth edges."""
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
