"""Opening the file of an image or a mask: faults in a sentence, what Pillow changes unasked, and how EXIF turns it."""
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
"""EXIF's orientations that exchange width and height."""
INVERSE = {6: 8, 8: 6}
"""Orientations that undo others; each of the rest undoes itself."""
EXIF_IN_PNG = (b'eXIf', b'Raw profile type exif', b'XML:com.adobe.xmp')
# Where the header of a JPEG 2000 stream begins, and how far behind it the depth of the first channel stands.
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
def decoding(path: str | Path, what: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an :class:`InputError` with the file's name.

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
    """How the pixels of an image that is not decoded yet are stored, in Pillow's words; '' where no decoder says it."""
    args = image.tile[0][3] if image.tile else None
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ''


def is_deep(image: ImageFile.ImageFile, content: bytes) -> bool:
    """Whether an image that is not decoded yet has more than 8 bits a channel, which Pillow cuts off in colour images.

    Args:
        image: the opened image.
        content: its file.
    """
    raw = raw_mode(image)
    if image.format == 'JPEG2000':
        # The lower 7 bits: depth less 1.
        return (content[content.index(JPEG2000_START) + JPEG2000_DEPTH] & 0x7F) + 1 > 8
    decoder, _, _, args = image.tile[0] if image.tile else ('', None, 0, None)
    if decoder.startswith('ppm') and isinstance(args, tuple):
        return args[-1] > 255  # the largest value
    # 'BGR;16' are three channels in 16 bits.
    return image.mode.startswith(('I', 'F')) or bool(re.search(r'(?<!BGR);16', raw))


def exif_orientation(image: ImageFile.ImageFile, content: bytes) -> int:
    """How EXIF turns an image that is not decoded yet: 1 (not at all) to 8.

    Args:
        image: the opened image.
        content: its file.
    """
    # Pillow decodes the whole of a PNG file before it says that there is no EXIF.
    if image.format == 'PNG' and not any(sign in content for sign in EXIF_IN_PNG):
        return UPRIGHT
    orientation = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    return orientation if orientation in range(UPRIGHT, 9) else UPRIGHT


def as_shown(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels from the order in which they are stored to that in which EXIF lets them be shown.

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
