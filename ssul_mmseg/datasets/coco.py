"""Turn COCO-style annotations into masks, by pycocotools."""
import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from ..scenario import IGNORE
from ..work_dir.files import new_folder
from .folders import IMAGE_FOLDERS, SPLITS, Part

MASKS = 'masks_coco'
FOLDERS = ('.', 'annotations')


@dataclass(frozen=True)
class CocoFile:
    """A file of annotations.

    Args:
        path: the JSON file.
        images: folder of its images, relative to the data set's folder.
        content: as pycocotools read it.
    """

    path: Path
    images: str
    content: Any


def find_coco(root: Path) -> dict[str, CocoFile]:
    """Find the annotations of 'train' and 'test' by the names of their files or folders; {} where there are none.

    Raises:
        InputError: pycocotools is missing, a file cannot be read, its images are not there, or one split lacks a file.
    """
    paths: dict[str, Path] = {}
    for split, names in SPLITS.items():
        candidates = [path for folder in FOLDERS for path in sorted((root / folder).glob('*.json'))
                      if any(name in path.stem.replace('-', '_').split('_') for name in names)]
        candidates += [path for name in names for path in sorted((root / name).glob('*.json'))]
        if candidates:
            paths[split] = candidates[0]
    if len(paths) == 1:
        split, path = next(iter(paths.items()))
        other = 'test' if split == 'train' else 'train'
        raise InputError(f'{path} holds the annotations of {split}, but there are none of {other}; put a JSON file '
                         f'with {other} in its name beside it')
    return {split: _read(root, split, path) for split, path in paths.items()}


def _read(root: Path, split: str, path: Path) -> CocoFile:
    """Read annotations, and find the folder of their images."""
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise InputError(f"{path} needs pycocotools, which is not installed; pip install 'ssul_mmseg[coco]'") from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints how long it took
            content = COCO(str(path))
        files = [image['file_name'] for image in content.dataset['images']]
        categories = [(entry['id'], entry['name']) for entry in content.dataset['categories']]
        content.dataset['annotations']
    except (OSError, ValueError, LookupError, TypeError, AssertionError) as error:
        raise InputError(f'{path} is no file of COCO annotations with images, annotations and categories '
                         f'({type(error).__name__}: {error}); give one as instances_train2017.json is') from error
    if not files or not categories:
        raise InputError(f'{path} names no image or no category; give a file with both')
    names = SPLITS[split]
    folders = [f'{images}/{name}' for images in IMAGE_FOLDERS for name in names]
    folders += [f'{name}/{images}' for images in IMAGE_FOLDERS for name in names]
    folders += [*names, *IMAGE_FOLDERS, '.']
    for folder in folders:
        if (root / folder / files[0]).is_file():
            return CocoFile(path, folder, content)
    raise InputError(f'{path} names the image {files[0]}, which is in none of the folders {root}/'
                     f'{{{", ".join(folders[:4])}, ...}}; put the images into {root}/images/{split}')


def names_of(files: Mapping[str, CocoFile]) -> list[tuple[int, str]]:
    """Id and name of the categories, by id.

    Raises:
        InputError: the files disagree.
    """
    found = {split: sorted((entry['id'], entry['name']) for entry in file.content.dataset['categories'])
             for split, file in files.items()}
    first = found['train']
    if found['test'] != first:
        raise InputError(f'{files["train"].path} and {files["test"].path} name different categories; they must be of '
                         'one data set')
    return first


def write_masks(root: Path, files: Mapping[str, CocoFile]) -> dict[str, Part]:
    """Write a mask of each image, all or none; a list names the images.

    The first category is 1. Of objects that overlap the smaller one is on top; crowds are ignored.

    Returns:
        Part by split.

    Raises:
        InputError: the folder of the masks is there already or cannot be written, or an annotation is of no category,
            or cannot be drawn.
    """
    value_of = {category: value for value, (category, _) in enumerate(names_of(files), start=1)}
    parts = {}
    with new_folder(root / MASKS, f'remove it, so that it is made of {files["train"].path}') as begun:
        for split, file in files.items():
            names = []
            for image in file.content.dataset['images']:
                mask = Image.fromarray(_draw(file, image, value_of))
                place = begun / split / Path(image['file_name']).with_suffix('.png')
                place.parent.mkdir(parents=True, exist_ok=True)
                mask.save(place)
                names.append(Path(image['file_name']).with_suffix('').as_posix())
            (begun / f'{split}.txt').write_text('\n'.join(names) + '\n', encoding='utf-8')
            parts[split] = Part(file.images, f'{MASKS}/{split}', f'{MASKS}/{split}.txt')
    return parts


def _draw(file: CocoFile, image: Mapping[str, Any], value_of: Mapping[int, int]) -> np.ndarray:
    """The mask of an image, uint8 (H, W)."""
    mask = np.zeros((image['height'], image['width']), np.uint8)
    annotations = file.content.imgToAnns.get(image['id'], [])
    crowds = [entry for entry in annotations if entry.get('iscrowd')]
    objects = sorted((entry for entry in annotations if not entry.get('iscrowd')), key=lambda entry: -_area(entry))
    for entry in [*crowds, *objects]:
        if entry['category_id'] not in value_of:
            raise InputError(f'annotation {entry.get("id")} of {file.path} is of category {entry["category_id"]}, '
                             'which the file does not name; add the category')
        try:
            drawn = file.content.annToMask(entry) > 0
            mask[drawn] = IGNORE if entry.get('iscrowd') else value_of[entry['category_id']]
        except Exception as error:  # damaged polygons raise almost anything
            raise InputError(f'annotation {entry.get("id")} of {file.path} cannot be drawn ({error}); give it a '
                             'segmentation of polygons or run lengths inside its image') from error
    return mask


def _area(entry: Mapping[str, Any]) -> float:
    """Area of an object, by which it lies behind smaller ones."""
    box = entry.get('bbox') or (0, 0, 0, 0)
    return float(entry.get('area') or box[2] * box[3])
