"""Mask files that several tests share."""
import numpy as np
from PIL import Image

HELD = [[0], [0, 1, 255], [5], [0, 1, 5, 254]]


def write_mask(path, values):
    """A mask that holds ``values``; always 8 pixels, so that files of as many values are of one size."""
    pixels = np.resize(np.array(values, dtype=np.uint8), (2, 4))
    image = Image.frombytes('P', (4, 2), pixels.tobytes())
    image.putpalette([255] * 768)
    image.save(path, compress_level=0)


def held(index):
    """Values of each mask of a class index."""
    return [index.values(i) for i in range(len(index))]
