"""Read the file of an image or a mask: report faults in one sentence, find what Pillow would change, apply EXIF."""
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from ..errors import InputError

UPRIGHT = 1
"""EXIF's orientation of an image whose pixels are stored as they are shown."""
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""
INVERSE = {6: 8, 8: 6}
"""Orientation -> the one that undoes it; each of the others undoes itself."""
EXIF_IN_PNG = (b'eXIf', b'Raw profile type exif', b'XML:com.adobe.xmp')
# First bytes of a JPEG 2000 stream, and the offset from them of the byte with the depth of the first channel.
JPEG2000_START, JPEG2000_DEPTH = b'\xff\x4f\xff\x51', 42
_REMEDY = 'replace it with a whole file'


def read_file(path: str | Path, what: str) -> bytes:
    """The content of a file.

    Args:
        path: the file.
        what: what a message calls it.

    Raises:
        InputError: it is missing, empty or cannot be read.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f'{what} {path} is missing; restore it or remove it from the image list') from error
    except OSError as error:
        fault = error.strerror or error
        raise InputError(f'{what} {path} cannot be read ({fault}); make it a readable file') from error
    if not content:
        raise InputError(f'{what} {path} is an empty file; {_REMEDY}')
    return content


@contextlib.contextmanager
def decoding_faults(path: str | Path, what: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an :class:`.InputError` with the file's name.

    Args:
        path: the file.
        what: what a message calls it.
    """
    try:
        yield
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f'{what} {path} is damaged or no image that Pillow reads; {_REMEDY}') from error
    except (Image.DecompressionBombError, MemoryError) as error:
        fault = str(error).rstrip('.') or 'memory is full'
        raise InputError(f'{what} {path} cannot be read ({fault}); it is too large: make it smaller') from error
    except Exception as error:  # decoders of damaged files raise almost anything
        raise InputError(f'{what} {path} cannot be read ({error or type(error).__name__}); {_REMEDY}') from error


def raw_mode(image: ImageFile.ImageFile) -> str:
    """Pillow's name for how the pixels of an undecoded image are stored; '' where no decoder reports it."""
    args = image.tile[0][3] if image.tile else None
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ''


def is_deep(image: ImageFile.ImageFile, content: bytes) -> bool:
    """Whether an undecoded image has more than 8 bits a channel; in colour images Pillow cuts off the rest.

    Args:
        image: the opened image.
        content: its file.
    """
    raw = raw_mode(image)
    if image.format == 'JPEG2000':
        # The lower 7 bits hold the depth minus 1.
        return (content[content.index(JPEG2000_START) + JPEG2000_DEPTH] & 0x7F) + 1 > 8
    decoder, _, _, args = image.tile[0] if image.tile else ('', None, 0, None)
    if decoder.startswith('ppm') and isinstance(args, tuple):
        return args[-1] > 255  # the largest value that a pixel may have
    # 'BGR;16' has three channels in 16 bits, so fewer than 8 bits each.
    return image.mode.startswith(('I', 'F')) or bool(re.search(r'(?<!BGR);16', raw))


def exif_orientation(image: ImageFile.ImageFile, content: bytes) -> int:
    """EXIF orientation of an undecoded image: 1 (stored as shown) to 8.

    Args:
        image: the opened image.
        content: its file.
    """
    # Look for EXIF in the bytes first: Pillow decodes a whole PNG file before it reports that there is none.
    if image.format == 'PNG' and not any(sign in content for sign in EXIF_IN_PNG):
        return UPRIGHT
    orientation = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    return orientation if orientation in range(UPRIGHT, 9) else UPRIGHT


def as_shown(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels as EXIF says that they are shown.

    Args:
        pixels: uint8 (H, W) or (H, W, 3).
        orientation: EXIF's, 1 to 8.

    Returns:
        uint8, (W, H) or (W, H, 3) for the orientations of :data:`SIDEWAYS`.
    """
    if orientation == UPRIGHT:
        return pixels
    picture = Image.fromarray(pixels)
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    return np.array(ImageOps.exif_transpose(picture))


def as_stored(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo :func:`as_shown`."""
    return as_shown(pixels, INVERSE.get(orientation, orientation))
