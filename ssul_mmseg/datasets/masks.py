"""Reading a mask: one channel of 8-bit class values, refused with a sentence where it is anything else."""
import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import InputError

MASK_MODES = ('P', 'L', '1')
"""Pillow's modes of one channel that fits 8 bits: palette index, grey level, bit."""

_REMEDY = 'replace it with a whole file'


def read_mask(path: str, what: str = 'mask') -> np.ndarray:
    """Read the value of each pixel of a mask; of an indexed image that is the palette index, never its colour.

    Args:
        path: image file of one channel of at most 8 bits, in any format that Pillow reads.
        what: what a message calls the file.

    Returns:
        uint8 (H, W): values 0 to 255; 0 and 1 for an image of one bit a pixel.

    Raises:
        InputError: the file is missing, damaged, no image, or has several channels or more than 8 bits.
    """
    try:
        with open(path, 'rb') as file:
            content = file.read()
    except FileNotFoundError as error:
        raise InputError(f'{what} {path} is missing; restore it or remove it from the image list') from error
    except OSError as error:
        fault = error.strerror or error
        raise InputError(f'{what} {path} cannot be read ({fault}); make it a readable file') from error
    if not content:
        raise InputError(f'{what} {path} is an empty file; {_REMEDY}')
    try:
        # Pillow decodes PNG pixels without comparing their checksums: only verify() notices a changed byte.
        # It uses the image up, hence the second open().
        with Image.open(io.BytesIO(content)) as image:
            image.verify()
        with Image.open(io.BytesIO(content)) as image:
            mode, channels = image.mode, len(image.getbands())
            mask = np.array(image, dtype=np.uint8) if mode in MASK_MODES else None
    except UnidentifiedImageError as error:
        raise InputError(f'{what} {path} is damaged or no image that Pillow reads; {_REMEDY}') from error
    except Exception as error:  # decoders of damaged files raise almost anything
        raise InputError(f'{what} {path} cannot be read ({error or type(error).__name__}); {_REMEDY}') from error
    if mask is None:
        fault = f'{channels} channels' if channels > 1 else 'of more'
        raise InputError(f'{what} {path} is {mode}; a {what} has one channel of 8 bits, not {fault}: save the '
                         "values as a PNG of mode 'P' or 'L'")
    return mask
