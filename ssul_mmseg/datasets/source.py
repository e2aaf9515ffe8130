"""Build any mmseg data set as the source of a task: find its images, and which label each mask value stands for."""
import functools
import inspect
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..errors import InputError
from ..scenario import BACKGROUND, IGNORE, MAX_CLASSES, Scenario
from ..work_dir.files import digest
from .classes import class_colours, class_names, has_background, metainfo_of
from .pairs import pair_files

NO_CLASS = -1
INDEX_FILES = 'class_index_*.npz'
"""Pattern of what :func:`index_file` names; the name of a file says which masks it is of."""


class Source(Protocol):
    """What this package asks of an mmseg data set; ``BaseSegDataset`` has it all.

    Attributes:
        metainfo: ``classes``, and ``palette`` where the data set has colours.
        reduce_zero_label: whether mask value 0 is no class, and all others count from 1.
        label_map: class by mask value, where it is not the value itself.
        data_root: the folder of the data set.
        data_prefix: folders of the images (``img_path``) and masks (``seg_map_path``).
        ann_file: the image list; '' where all files of the folders count.
    """

    metainfo: dict[str, Any]
    reduce_zero_label: bool
    label_map: dict[int, int] | None
    data_root: str | None
    data_prefix: dict[str, str]
    ann_file: str

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """What mmseg knows of an image, such as ``img_path`` and ``seg_map_path``."""

    def __len__(self) -> int: ...


def build_source(config: dict, test_mode: bool) -> Source:
    """Build an mmseg data set to read names and paths from.

    Raises:
        InputError: its folder or image list is missing, it holds no image, images and masks do not pair, or its classes
            cannot be used as they are.
    """
    metainfo = metainfo_of(config)
    if 'classes' in metainfo:  # else its constructor names them
        class_names(metainfo, config['type'])
        class_colours(metainfo, config['type'])
    root = config.get('data_root') or ''
    empty = f'{config["type"]} in {root!r} holds no image; put the data there (see "Data" in README.md)'
    _check_list(config)
    try:
        if _lists_files(config):
            source = DATASETS.build({**config, 'test_mode': test_mode, 'lazy_init': True})
            source.load_data_list = functools.partial(pair_files, source)
            source.full_init()
        else:
            source = DATASETS.build({**config, 'test_mode': test_mode})
    except (FileNotFoundError, NotADirectoryError, AssertionError) as error:
        fault = (str(error) or 'a folder is missing').splitlines()[0]  # mmseg's assertion has no message
        raise InputError(f'{config["type"]} cannot be loaded from {root!r}: {fault}; put the data there (see "Data" in '
                         'README.md) or set data_root') from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        # With an empty image list mmengine fails in np.concatenate of nothing.
        fault = f'{config["type"]} cannot be built: {" ".join(str(error).split())[:200]}; correct its config'
        raise InputError(empty if 'concatenate' in str(error) else fault) from error
    if not len(source):
        raise InputError(empty)
    return source


def _lists_files(config: dict) -> bool:
    """Whether a data set lists its files by mmseg's own method, which this package replaces; any other method stays."""
    kind = DATASETS.get(config['type'])
    load = getattr(kind, 'load_data_list', None)
    if not inspect.isclass(kind) or not issubclass(kind, BaseSegDataset) or config.get('backend_args'):
        return False
    try:
        inspect.signature(kind).bind_partial(lazy_init=True)
    except TypeError:
        return False
    return load is BaseSegDataset.load_data_list


def _check_list(config: dict) -> None:
    """Refuse an image list that is missing, or that mmseg would misread: a folder, or other bytes than text."""
    if not config.get('ann_file'):
        return
    path = Path(config.get('data_root') or '', config['ann_file'])
    try:
        path.read_text(encoding='utf-8')
    except FileNotFoundError as error:
        raise InputError(f'image list {path} is missing; put the data there (see "Data" in README.md) or set '
                         'data_root') from error
    except (OSError, ValueError) as error:
        fault = getattr(error, 'strerror', None) or 'it is not UTF-8 text'
        raise InputError(f'image list {path} cannot be read ({fault}); give a text file with a name a line') from error


def label_table(source: Source, scenario: Scenario) -> np.ndarray:
    """Make the table from mask value to label.

    Mask values pass through the data set's own ``reduce_zero_label`` and ``label_map`` as in mmseg, except that the
    value 0 which ``reduce_zero_label`` removes is background here, not ignored: it stands for pixels of no class.

    Returns:
        int16 (256,): a label, IGNORE, or :data:`NO_CLASS`.
    """
    if scenario.num_classes > MAX_CLASSES:
        raise InputError(f'8-bit masks hold at most {MAX_CLASSES} classes, but the data set has {scenario.num_classes}')
    first = 1 if source.reduce_zero_label else 0
    class_of = {v: v - first for v in range(first, IGNORE)}
    if source.label_map:
        class_of = {v: source.label_map.get(c, c) for v, c in class_of.items()}
    offset = 0 if has_background(source.metainfo) else 1
    label_of = {class_id: label for label, class_id in enumerate(scenario.order, start=1)}
    label_of[0] = BACKGROUND
    table = np.full(256, NO_CLASS, dtype=np.int16)
    for value, class_id in class_of.items():
        table[value] = IGNORE if class_id == IGNORE else label_of.get(class_id + offset, NO_CLASS)
    if first:
        table[0] = BACKGROUND
    table[IGNORE] = IGNORE
    return table


def image_id(source: Source, image: int) -> str:
    """Name of an image that does not depend on where the data lie: its path below the image folder."""
    path = source.get_data_info(image)['img_path']
    return Path(os.path.relpath(path, source.data_prefix['img_path'])).as_posix()


def saliency_path(source: Source, folder: str, image: int) -> str:
    """Where an image's saliency map lies, in a folder below the data root."""
    return str(Path(source.data_root or '', folder, Path(image_id(source, image)).with_suffix('.png')))


def index_file(folder: str | None, source: Source) -> Path:
    """Where the class index of a data set is cached: below ``folder``, by default beside its masks."""
    masks = Path(source.data_prefix['seg_map_path'])
    listing = Path(source.ann_file).stem if source.ann_file else 'all'
    # Folders of training and test masks may share a name, and so may lists.
    place = digest(f'{os.path.abspath(masks)}\0{source.ann_file}'.encode())[:8]
    return Path(folder or masks.parent) / f'class_index_{masks.name}_{listing}_{place}.npz'
