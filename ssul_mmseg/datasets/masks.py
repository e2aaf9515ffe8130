"""Read a mask of one channel of 8-bit class values; refuse anything else in one sentence."""
import io

import numpy as np
from PIL import Image, ImageFile

from ..errors import InputError
from .image_files import UPRIGHT, decoding_faults, exif_orientation, raw_mode, read_file

MASK_MODES = ('P', 'L', '1')
"""Pillow's modes of one channel that fits 8 bits: palette index, grey level, bit."""
FORMATS = ('PNG', 'TIFF', 'BMP', 'GIF')
"""Formats that keep every value."""
LOSSY_TIFF = ('jpeg', 'tiff_jpeg', 'webp')
# Raw mode -> the factor by which Pillow multiplies stored grey levels, so that the largest is white.
GREY_STEP = {'L;2': 85, 'L;4': 17}
KEPT = ('', '1', 'L', 'P', 'P;1', 'P;2', 'P;4')
"""Raw modes whose values Pillow returns unchanged ('': GIF). The others are negatives or have another bit order."""
BMP_DEPTH, BMP_BITS = 28, {'1': 1, 'L': 8}
"""Offset of the bits per pixel in a BMP file; the numbers of bits for which Pillow reads grey values right, by mode."""
_REMEDY = "save the values as a PNG of mode 'P' or 'L'"


def read_mask(path: str, what: str = 'mask') -> np.ndarray:
    """Read the stored value of each pixel of a mask: in an indexed image the palette index, not the colour.

    Args:
        path: PNG, TIFF, BMP or GIF file of one channel of at most 8 bits.
        what: what a message calls the file.

    Returns:
        uint8 (H, W): values 0 to 255; 0 to 2**b - 1 for an image of b bits a pixel.

    Raises:
        InputError: the file is missing, damaged, no image, of a format or compression that changes values, turned by
            EXIF, or has several channels or more than 8 bits.
    """
    content = read_file(path, what)
    with decoding_faults(path, what):
        with Image.open(io.BytesIO(content)) as image:
            _check(image, content, path, what)
            # Pillow decodes PNG pixels without checking their checksums: only verify() notices a changed byte.
            # verify() makes the image unusable, hence the second open().
            image.verify()
        with Image.open(io.BytesIO(content)) as image:
            if exif_orientation(image, content) != UPRIGHT:
                raise InputError(f'{what} {path} is turned by an EXIF tag of its own; turn its pixels and remove the '
                                 'tag')
            step = GREY_STEP.get(raw_mode(image), 1)
            return np.array(image, dtype=np.uint8) // np.uint8(step)


def _check(image: ImageFile.ImageFile, content: bytes, path: str, what: str) -> None:
    """Refuse a file whose format changes values, or whose stored values Pillow does not return unchanged."""
    compression = image.info.get('compression')
    if image.format not in FORMATS or compression in LOSSY_TIFF:
        kind = f'{image.format} ({compression})' if image.format in FORMATS else image.format
        raise InputError(f'{what} {path} is {kind}; only PNG, GIF, BMP and lossless TIFF files are sure to keep every '
                         f'value: {_REMEDY}, from their source, as a converted copy of this file keeps its faults')
    if image.mode not in MASK_MODES:
        channels = len(image.getbands())
        fault = f'{channels} channels' if channels > 1 else 'of more'
        raise InputError(f'{what} {path} is {image.mode}; a {what} has one channel of 8 bits, not {fault}: {_REMEDY}')
    raw = raw_mode(image)
    misread = image.format == 'BMP' and content[BMP_DEPTH] != BMP_BITS.get(image.mode, content[BMP_DEPTH])
    if misread or raw not in (*KEPT, *GREY_STEP):
        raise InputError(f'{what} {path} stores its values in a way ({image.format} {raw}) that Pillow does not give '
                         f'as they are; {_REMEDY}')
