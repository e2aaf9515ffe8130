"""Pair images with masks by file name, whatever usual suffix they have; refuse files that are left over."""
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from mmengine.fileio import list_dir_or_file
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset

from ..errors import InputError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif')
MASK_SUFFIXES = ('.png', '.tif', '.tiff', '.bmp', '.gif')


class LeftOver(NamedTuple):
    """A sentence on the first file without a counterpart, '' where there is none, and what is wrong with each."""

    sentence: str
    every: list[str]


class LeftOverError(InputError):
    """Images without masks, or masks without images.

    Args:
        sentence: what is wrong with the first.
        every: what is wrong with each.
    """

    def __init__(self, sentence: str, every: Sequence[str]) -> None:
        super().__init__(sentence)
        self.every = every


def pair_files(source: BaseSegDataset) -> list[dict]:
    """Pair a data set's images and masks: those of its list, else those of its folders.

    It replaces ``BaseSegDataset.load_data_list``, which takes files of one suffix and drops the others in silence.
    ``img_suffix`` and ``seg_map_suffix`` may have any of the usual endings, in capitals too, in place of their own.

    Args:
        source: the data set.

    Returns:
        what mmseg knows of each image, in the order of the list, or in that of the paths.

    Raises:
        InputError: the data set has no folder of masks; an image of the folders lacks a mask, or a mask an image; or
            two files have one name.
    """
    if source.data_prefix.get('seg_map_path') is None:
        raise InputError(f'{type(source).__name__} has no masks; set data_prefix.seg_map_path to their folder')
    has_list = source.ann_file and not os.path.isdir(source.ann_file)
    return _pair_list(source) if has_list else _pair_folders(source)


def _pair_folders(source: BaseSegDataset) -> list[dict]:
    """Pair all files of the folders."""
    folder, mask_folder = source.data_prefix['img_path'], source.data_prefix['seg_map_path']
    images, masks = _files(folder), _files(mask_folder)
    # Both may be one folder, or one may lie in the other: a file counts as mask or as image, not as both.
    if _is_below(folder, mask_folder):
        masks -= images
    masks_by_name = _by_name(masks, mask_folder, source.seg_map_suffix, MASK_SUFFIXES)
    images.difference_update(*masks_by_name.values())
    images_by_name = _by_name(images, folder, source.img_suffix, IMAGE_SUFFIXES)
    if not images_by_name:
        return []
    image_of = {name: _only(paths) for name, paths in images_by_name.items()}
    mask_of = {name: _only(paths) for name, paths in masks_by_name.items()}
    images_left = _left_over(image_of, mask_of, 'image', f'mask {mask_folder}/*{source.seg_map_suffix}')
    masks_left = _left_over(mask_of, image_of, 'mask', f'image {folder}/*{source.img_suffix}')
    if images_left.every or masks_left.every:
        raise LeftOverError(images_left.sentence or masks_left.sentence, [*images_left.every, *masks_left.every])
    print_log(f'{folder}: {len(image_of)} images, each with its mask in {mask_folder}', logger='current')
    shared = dict(label_map=source.label_map, reduce_zero_label=source.reduce_zero_label)
    infos = [dict(img_path=image, seg_map_path=mask_of[name], seg_fields=[], **shared)
             for name, image in image_of.items()]
    return sorted(infos, key=lambda info: info['img_path'])


def _pair_list(source: BaseSegDataset) -> list[dict]:
    """Find the files that a list names; a missing one keeps the usual suffix and is reported where it is used."""
    infos = BaseSegDataset.load_data_list(source)
    # An empty line names nothing.
    infos = [info for info in infos if os.path.basename(info['img_path']) != source.img_suffix]
    for key, other, suffix, usual in (('img_path', 'seg_map_path', source.img_suffix, IMAGE_SUFFIXES),
                                      ('seg_map_path', 'img_path', source.seg_map_suffix, MASK_SUFFIXES)):
        missing = [info for info in infos if not os.path.isfile(info[key])]
        folder = source.data_prefix[key]
        if not missing or not os.path.isdir(folder):
            continue
        found = _by_name(_files(folder) - {info[other] for info in infos}, folder, suffix, usual)
        for info in missing:
            name = os.path.relpath(info[key], folder).removesuffix(suffix)
            stem, ending = os.path.splitext(name)
            # A list may name files with their suffix.
            named = found.get(name) or (found.get(stem) if ending.lower() in IMAGE_SUFFIXES else None)
            if named:
                info[key] = _only(named)
    return infos


def _files(folder: str) -> set[str]:
    """Paths of the files below a folder, hidden ones left out.

    Raises:
        InputError: a name is not UTF-8.
    """
    names = list(list_dir_or_file(folder, list_dir=False, recursive=True))
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(name).decode(errors='backslashreplace')
            raise InputError(f'the name of the file {shown} in {folder} is not UTF-8; rename it') from error
    return {os.path.join(folder, name) for name in names}


def _is_below(folder: str, above: str) -> bool:
    """Whether a folder lies in another one."""
    folder, above = os.path.realpath(folder), os.path.realpath(above)
    return folder != above and os.path.commonpath([folder, above]) == above


def _by_name(paths: Iterable[str], folder: str, suffix: str, usual: Collection[str]) -> dict[str, list[str]]:
    """Group files by their path below a folder, without suffix.

    Args:
        paths: files.
        folder: where they lie.
        suffix: what their names end in; after its last dot any usual suffix may stand, in capitals too.
        usual: suffixes, small and with their dots.
    """
    tail, dot, ending = suffix.rpartition('.')
    tail, endings = (tail, {*usual, f'.{ending}'.lower()}) if dot else (suffix, {''})
    found: dict[str, list[str]] = {}
    for path in sorted(paths):
        stem, ending = os.path.splitext(os.path.relpath(path, folder))
        if ending.lower() in endings and stem.endswith(tail):
            found.setdefault(stem.removesuffix(tail), []).append(path)
    return found


def _only(paths: Sequence[str]) -> str:
    """Return the only file of a name.

    Raises:
        InputError: there are several.
    """
    if len(paths) > 1:
        raise InputError(f'{paths[0]} and {paths[1]} have one name but for their suffix, so it is not clear which one '
                         'is meant; rename or remove one')
    return paths[0]


def _left_over(file_of: Mapping[str, str], other_of: Mapping[str, str], what: str, wanted: str
               ) -> LeftOver:
    """Find files without a counterpart.

    Args:
        file_of: files by name.
        other_of: their counterparts by name.
        what: what a message calls the files.
        wanted: what it calls the counterparts; ``*`` stands for the name.

    """
    left = sorted(file_of.keys() - other_of.keys())
    every = [f'{what} {file_of[name]} has no {wanted.replace("*", name)}' for name in left]
    if not left:
        return LeftOver('', every)
    first = every[0].removeprefix(f'{what} ')
    return LeftOver(f'{len(left)} of {len(file_of)} {what}s are left over: {first}; add it, remove the {what}, or name '
                    'the images that count in a list (ann_file)', every)
