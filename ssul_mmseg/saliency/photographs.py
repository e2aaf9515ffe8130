"""Find the photographs of a folder or a data set, and decode them as training does."""
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..datasets.pairs import IMAGE_SUFFIXES
from ..datasets.source import build_source
from ..datasets.transforms import LoadImage
from ..errors import InputError


def photographs_of(folder: str | Path) -> dict[str, Path]:
    """The photographs that lie in a folder, by id.

    Folders below are left out: of the root of a data set they would add its masks.

    Args:
        folder: the folder; hidden files are left out.

    Returns:
        id -> file, in the order of the names; an id is the file's name without its ending.

    Raises:
        InputError: there is no such folder, it holds no photograph, or two of one id.
    """
    folder = Path(folder)
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES)
    except OSError as error:
        raise InputError(f'{folder} is no folder that can be read ({error.strerror}); give a config, or the folder '
                         'that holds the image files') from error
    found = by_id((file for file in files if not file.name.startswith('.')), folder)
    if not found:
        raise InputError(f'{folder} itself holds no photograph ({", ".join(IMAGE_SUFFIXES)}); give the folder that '
                         'holds the image files, such as data/VOCdevkit/VOC2012/JPEGImages, or a config')
    return found


def photographs_of_source(config: dict) -> tuple[dict[str, Path], Path]:
    """The photographs of an mmseg data set by id, and its root, below which maps lie.

    Args:
        config: config of the data set, as ``TaskDataset`` takes it.

    Returns:
        id -> file, in the data set's order; an id is the path below the image folder, without its ending. The root.

    Raises:
        InputError: the data set cannot be loaded, is empty, or holds two photographs of one id.
    """
    source = build_source(config, test_mode=False)
    files = (source.get_data_info(i)['img_path'] for i in range(len(source)))
    return by_id(files, source.data_prefix['img_path']), Path(source.data_root or '')


def by_id(files: Iterable[str | Path], folder: str | Path) -> dict[str, Path]:
    """Files of photographs by their path below ``folder`` without its ending, as ``TaskDataset`` names maps.

    Raises:
        InputError: two files have one id, so that both would have the same map.
    """
    found: dict[str, Path] = {}
    for file in map(Path, files):
        name = Path(os.path.relpath(file, folder)).with_suffix('').as_posix()
        if name in found:
            raise InputError(f'{found[name]} and {file} would both have the map {name}.png; rename one of them')
        found[name] = file
    return found


def choose(photographs: dict[str, Path], listing: str | Path) -> dict[str, Path]:
    """Those photographs that a list names.

    Args:
        photographs: id -> file.
        listing: text file with an id a line.

    Raises:
        InputError: the list cannot be read, names no photograph, or one that is not there.
    """
    try:
        lines = Path(listing).read_text(encoding='utf-8').splitlines()
    except (OSError, ValueError) as error:
        fault = getattr(error, 'strerror', None) or 'it is not UTF-8 text'
        raise InputError(f'list {listing} cannot be read ({fault}); give a text file with an id a line') from error
    names = [line.strip() for line in lines if line.strip()]
    missing = [name for name in names if name not in photographs]
    if missing or not names:
        fault = f'names {missing[0]}, which is no photograph here' if missing else 'names no photograph'
        raise InputError(f'list {listing} {fault}; give ids of photographs, without an ending, one a line')
    return {name: photographs[name] for name in names}


def read_photograph(path: str | Path) -> np.ndarray:
    """Decode a photograph as training does: grey and CMYK become RGB, EXIF's orientation is applied.

    Args:
        path: image file.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        InputError: the file is missing, damaged, no image, or has more than 8 bits a channel.
    """
    image = LoadImage()(dict(img_path=str(path), seg_fields=[]))['img']
    return np.ascontiguousarray(image[..., ::-1])
