"""Mask and image files that several tests share."""
import struct
import zlib

import numpy as np
from PIL import Image

from ssul_mmseg.datasets.class_index import ClassIndex

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


def png_bytes(rows, width, bits, colour=0):
    """A PNG file as no writer of Pillow makes it.

    Args:
        rows: the bytes of each row.
        width: pixels a row.
        bits: bits a channel.
        colour: PNG's colour type: 0 grey, 2 RGB, 4 grey with alpha, 6 RGBA.
    """
    def chunk(kind, content):
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
    header = struct.pack('>IIBBBBB', width, len(rows), bits, colour, 0, 0, 0)
    pixels = zlib.compress(b''.join(b'\0' + row for row in rows))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', pixels) + chunk(b'IEND', b'')


def tiff_bytes(rows, width, bits, photometric=1, channels=1, **tags):
    """An uncompressed TIFF file; ``photometric``: 0 a negative, 1 grey, 2 RGB; ``tags``: more of them, by name."""
    pixels = b''.join(rows)
    numbers = {256: width, 257: len(rows), 258: bits, 259: 1, 262: photometric, 273: 0, 277: channels, 278: len(rows),
               279: len(pixels), **{{'orientation': 274}[name]: value for name, value in tags.items()}}
    start = 8 + 2 + 12 * len(numbers) + 4
    depths = struct.pack(f'<{channels}H', *[bits] * channels)
    entries = b''
    for tag, value in sorted(numbers.items()):
        kind, count = (4 if tag in (273, 279) else 3), 1
        if tag == 258 and channels > 2:
            count, value = channels, start
        entries += struct.pack('<HHII', tag, kind, count, start + len(depths) if tag == 273 else value)
    return b'II*\0' + struct.pack('<IH', 8, len(numbers)) + entries + bytes(4) + depths + pixels


def index_of(values, num_values=256):
    """A class index of images that hold these values."""
    held = np.zeros((len(values), num_values), bool)
    for row, image in zip(held, values, strict=True):
        row[list(image)] = True
    return ClassIndex(np.packbits(held, axis=1), num_values)
