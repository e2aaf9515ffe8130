"""Find where a folder keeps the images and masks of training and test."""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .pairs import IMAGE_SUFFIXES, MASK_SUFFIXES

IMAGE_FOLDERS = ('images', 'img_dir', 'JPEGImages', 'imgs', 'image')
MASK_FOLDERS = ('masks', 'ann_dir', 'SegmentationClass', 'labels', 'annotations', 'mask')
SPLITS = {'train': ('train', 'training', 'train2017'),
          'test': ('test', 'testing', 'val', 'valid', 'validation', 'val2017', 'test2017')}
LIST_FOLDERS = ('.', 'lists', 'ImageSets/Segmentation')
TEST_SHARE = 5
"""Where a folder has no test images, one image of so many becomes one."""


@dataclass(frozen=True)
class Part:
    """The images of training or test; all paths are relative to the data set's folder.

    Args:
        images: folder of the images.
        masks: folder of their masks.
        listing: text file that names the images; '' where all count.
    """

    images: str
    masks: str
    listing: str = ''


def find_parts(root: Path) -> dict[str, Part]:
    """Find the images and masks of 'train' and 'test'.

    They lie in folders of each split (``train/images``, ``train/masks``), in folders of each kind (``images/train``,
    ``masks/train``), or all together (``images``, ``masks``), beside lists such as ``train.txt`` and ``test.txt``.

    Returns:
        Part by split; one without a list, named 'all', where the images lie together and there are no lists.

    Raises:
        InputError: nothing of the kind is there, or training images without test images.
    """
    found: dict[str, Part] = {}
    for split, names in SPLITS.items():
        for name in names:
            pairs = [(f'{name}/{images}', f'{name}/{masks}') for images in IMAGE_FOLDERS for masks in MASK_FOLDERS]
            pairs += [(f'{images}/{name}', f'{masks}/{name}') for images in IMAGE_FOLDERS for masks in MASK_FOLDERS]
            there = [pair for pair in pairs if holds(root / pair[0], IMAGE_SUFFIXES) and
                     holds(root / pair[1], MASK_SUFFIXES)]
            if there and split not in found:
                found[split] = Part(*there[0])
    if not found:
        together = [(images, masks) for images in IMAGE_FOLDERS for masks in MASK_FOLDERS
                    if holds(root / images, IMAGE_SUFFIXES) and holds(root / masks, MASK_SUFFIXES)]
        if not together:
            raise InputError(f'{root} holds no images with masks; put them into {root}/train/images and '
                             f'{root}/train/masks, with equal names, and the same for test')
        lists = {split: listing for split in SPLITS for listing in _lists(root, split)}
        if len(lists) < 2:
            return {'all': Part(*together[0])}
        return {split: Part(*together[0], listing) for split, listing in lists.items()}
    if len(found) < 2:
        missing = 'test' if 'train' in found else 'training'
        raise InputError(f'{root} holds no {missing} images beside {next(iter(found.values())).images}; move some of '
                         f'them, with their masks, to a folder of the name {missing.removesuffix("ing")}')
    return found


def _lists(root: Path, split: str) -> Iterator[str]:
    """Lists of a split, those that count most last."""
    for folder in LIST_FOLDERS[::-1]:
        for name in SPLITS[split][::-1]:
            if (root / folder / f'{name}.txt').is_file():
                yield Path(folder, f'{name}.txt').as_posix()


def holds(folder: Path, suffixes: Sequence[str]) -> bool:
    """Whether a folder holds a file with one of some suffixes, itself or in a folder of its own."""
    return folder.is_dir() and any(files_of(folder, suffixes))


def files_of(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """The files below a folder with one of some suffixes, hidden ones left out, in the order of their paths."""
    for path in sorted(folder.rglob('*')):
        if path.suffix.lower() in suffixes and not path.name.startswith('.') and path.is_file():
            yield path


def divided(names: Sequence[str]) -> dict[str, list[str]]:
    """Divide images that lie together: every fifth, by name, is for the test.

    Raises:
        InputError: they are too few.
    """
    if len(names) < 2:
        raise InputError('there is only one image, which cannot be divided into training and test; add more')
    test = sorted(names)[TEST_SHARE - 1::TEST_SHARE] or sorted(names)[-1:]
    return {'train': [name for name in sorted(names) if name not in set(test)], 'test': test}
