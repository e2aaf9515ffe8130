"""Turn images and label maps into small pictures that a page holds."""
import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..scenario import BACKGROUND, IGNORE

STRIPES = 7
"""Pixels from one stripe of unknown to the next; a stripe is half as wide."""
STRIPE, IGNORED = (128, 128, 128, 255), (128, 128, 128, 70)
"""RGBA of the stripes of unknown, and of pixels that count nowhere; the page's ground shows through the rest."""


def data_uri(content: bytes, kind: str) -> str:
    """A URI that holds the bytes of a file."""
    return f'data:{kind};base64,{base64.b64encode(content).decode()}'


def photo(image: Image.Image, side: int) -> str:
    """An image as a small picture.

    Args:
        image: of any mode.
        side: its longest side, in pixels.

    Returns:
        A data URI.
    """
    small = image.convert('RGB')
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, 'JPEG', quality=82)
    return data_uri(file.getvalue(), 'image/jpeg')


def label_map(labels: np.ndarray, palette: Sequence[Sequence[int]], side: int,
              unknown: np.ndarray | None = None) -> str:
    """Labels as a small picture: classes in their colours, unknown hatched, background empty.

    Args:
        labels: uint8 (H, W): background 0, classes 1..N, IGNORE.
        palette: colours by label, RGB.
        side: the longest side of the picture, in pixels.
        unknown: bool (H, W), pixels that are unknown.

    Returns:
        A data URI.
    """
    colours = np.zeros((256, 4), np.uint8)
    colours[:len(palette), :3], colours[:len(palette), 3] = palette, 255
    colours[BACKGROUND], colours[IGNORE] = 0, IGNORED
    small = _shrink(labels, side)
    picture = colours[small]
    if unknown is not None:
        y, x = np.indices(small.shape)
        picture[_shrink(unknown.astype(np.uint8), side).astype(bool) & ((x + y) % STRIPES < STRIPES // 2)] = STRIPE
    file = io.BytesIO()
    Image.fromarray(picture).quantize(256, method=Image.Quantize.FASTOCTREE).save(file, 'PNG', optimize=True)
    return data_uri(file.getvalue(), 'image/png')


def _shrink(values: np.ndarray, side: int) -> np.ndarray:
    """Resize a map of values so that its longest side is ``side``; values are taken, never mixed."""
    height, width = values.shape
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.array(Image.fromarray(values).resize(size, Image.Resampling.NEAREST))


def css_colour(colour: Sequence[int]) -> str:
    """RGB from 0 to 255 as CSS writes it."""
    return f'rgb({", ".join(map(str, colour))})'
