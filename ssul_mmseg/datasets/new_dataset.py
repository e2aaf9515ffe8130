"""Write the config of a folder of images and masks."""
import contextlib
import os
import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..scenario import Scenario
from ..work_dir.files import write_text
from .classes import BACKGROUND_NAME, class_colours, class_names
from .coco import MASKS, find_coco, names_of, write_masks
from .folders import Part, divided, files_of, find_parts
from .mask_kinds import Meaning, check_number, convert, meaning_of
from .pairs import IMAGE_SUFFIXES, MASK_SUFFIXES

CONVERTED = '_labels'
"""What the name of a folder of converted masks ends in."""
SALIENCY = 'SaliencyMap'
PACKAGE = Path(__file__).resolve().parents[1]


@dataclass
class NewDataset:
    """A data set that was found in a folder, and what was written for it.

    Args:
        root: the folder.
        parts: of training and test.
        meaning: what the masks hold.
        written: folders and lists that were made.
    """

    root: Path
    parts: dict[str, Part]
    meaning: Meaning
    written: list[Path] = field(default_factory=list)

    @property
    def num_classes(self) -> int:
        """Number of classes without background."""
        return len(self.meaning.classes) - (self.meaning.classes[0].casefold() == BACKGROUND_NAME)

    @property
    def saliency(self) -> str:
        """Which pixels of no labelled class become unknown."""
        if (self.root / SALIENCY).is_dir():
            return 'map'
        return 'ground_truth' if self.meaning.has_background else 'all'


def read_names(path: Path) -> list[str]:
    """Read names of classes, one a line.

    Raises:
        InputError: the file cannot be read or is empty.
    """
    try:
        names = [line.strip() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f'{path} cannot be read ({getattr(error, "strerror", None) or "it is not UTF-8"}); give a '
                         'text file with the name of a class a line') from error
    if not names:
        raise InputError(f'{path} names no class; give a name a line')
    return names


@contextlib.contextmanager
def new_dataset(root: Path, names: Path | None = None, palette: Path | None = None,
                background: bool = True) -> Iterator[NewDataset]:
    """Find what a folder holds, and make masks of class values where it has none.

    An error inside the context removes what was written.

    Args:
        root: the folder.
        names: text file with the names of the classes.
        palette: text file with names and colours, for masks of colours.
        background: whether the value 0 is background; else it is the first class.

    Raises:
        InputError: the folder holds no data set that can be used, or a mask cannot be read or has no meaning.
    """
    if not root.is_dir():
        raise InputError(f'there is no folder {root}; give the folder that holds images and masks')
    written: list[Path] = []
    try:
        yield _find(root, names, palette, background, written)
    except BaseException:
        for path in written:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise


def _find(root: Path, names: Path | None, palette: Path | None, background: bool, written: list[Path]) -> NewDataset:
    """Find images and masks, else images and annotations, and write what they lack."""
    try:
        parts = find_parts(root)
    except InputError:
        found = _draw(root, written)
        if found is None:
            raise
        if names or palette or not background:
            raise InputError(f'the annotations in {root} name the classes themselves; leave out --names, --palette and '
                             '--no-background') from None
    else:
        found = _convert(root, parts, names, palette, background, written)
    check_number(found.meaning.classes)
    metainfo = dict(classes=found.meaning.classes, palette=found.meaning.palette)
    class_names(metainfo, str(root))
    class_colours(metainfo, str(root))
    return found


def _draw(root: Path, written: list[Path]) -> NewDataset | None:
    """Make masks of annotations; None where there are none."""
    annotations = find_coco(root)
    if not annotations:
        return None
    parts = write_masks(root, annotations)
    written.append(root / MASKS)
    return NewDataset(root, parts, Meaning([BACKGROUND_NAME, *(name for _, name in names_of(annotations))]), written)


def _convert(root: Path, parts: dict[str, Part], names: Path | None, palette: Path | None, background: bool,
             written: list[Path]) -> NewDataset:
    """Convert masks that have no values of classes, and divide images that lie together."""
    masks = {folder: list(files_of(root / folder, MASK_SUFFIXES))
             for folder in sorted({part.masks for part in parts.values()})}
    every = [path for paths in masks.values() for path in paths]
    meaning = meaning_of(every, read_names(names) if names else None, palette, background)
    if meaning.values or meaning.colours:
        for folder, paths in masks.items():
            convert(root / folder, paths, meaning, root / f'{folder}{CONVERTED}')
            written.append(root / f'{folder}{CONVERTED}')
        parts = {split: Part(part.images, f'{part.masks}{CONVERTED}', part.listing) for split, part in parts.items()}
    if 'all' in parts:
        parts = _divide(root, parts['all'], written)
    return NewDataset(root, parts, meaning, written)


def _divide(root: Path, part: Part, written: list[Path]) -> dict[str, Part]:
    """Write lists of the training and the test images of one folder."""
    folder = root / part.images
    images = [path.relative_to(folder).with_suffix('').as_posix() for path in files_of(folder, IMAGE_SUFFIXES)]
    parts = {}
    for split, names in divided(images).items():
        listing = root / f'{split}.txt'
        if listing.exists():
            raise InputError(f'{listing} is there, but no list of the other images; add that, or remove it')
        write_text(listing, '\n'.join(names) + '\n')
        written.append(listing)
        parts[split] = Part(part.images, part.masks, listing.name)
    return parts


def default_scenario(num_classes: int) -> str:
    """Half of the classes first, then one at a time."""
    return f'{num_classes - num_classes // 2}-1'


def config_text(found: NewDataset, base: str, scenario: str) -> str:
    """The config of a data set.

    Args:
        found: the data set.
        base: path of the config that gives network and schedule, relative to the new config or absolute.
        scenario: such as '4-2'.

    Raises:
        InputError: the scenario does not fit the number of classes.
    """
    tasks = len(Scenario(scenario, found.num_classes).tasks)
    classes = _wrapped('classes=', [repr(name) for name in found.meaning.classes], '(', ')')
    palette = ''
    if found.meaning.palette:
        palette = ',\n' + _wrapped('palette=', [str(list(colour)) for colour in found.meaning.palette], '[', ']')
    loaders = []
    for split, part in sorted(found.parts.items(), reverse=True):
        listing = f', ann_file={part.listing!r}' if part.listing else ''
        loaders.append(f'{split}_dataloader = dict(dataset=dict(dataset=dict(data{listing}, data_prefix=dict(\n'
                       f'    img_path={part.images!r}, seg_map_path={part.masks!r}))))')
    return '\n'.join([
        f'# {found.num_classes} classes in {tasks} tasks; ssul check-data shows what the data hold.',
        f'_base_ = {base!r}',
        f'dataset_name = {found.root.resolve().name!r}',
        f'data_root = {str(found.root)!r}',
        f'scenario = dict(name={scenario!r}, num_classes={found.num_classes})',
        f'saliency = {found.saliency!r}',
        f"data = dict(_delete_=True, type='BaseSegDataset', metainfo=dict(\n{classes}{palette}))",
        *loaders, ''])


def _wrapped(key: str, items: Sequence[str], start: str, end: str) -> str:
    """A list of items in lines of at most 116 characters."""
    text = f'{key}{start}{", ".join(items)}{"," if len(items) == 1 else ""}{end}'
    # No break inside an item: its spaces are hidden from the wrapping.
    for item in items:
        text = text.replace(item, item.replace(' ', '\0'))
    lines = textwrap.wrap(text, 116, initial_indent=' ' * 4, subsequent_indent=' ' * 8, break_long_words=False,
                          break_on_hyphens=False)
    return '\n'.join(lines).replace('\0', ' ')


def write_config(found: NewDataset, out: Path, base: Path, scenario: str | None, check: Callable[[str], object]) -> str:
    """Write the config of a data set.

    Args:
        found: the data set.
        out: the new file.
        base: config that gives network and schedule.
        scenario: such as '4-2'; None: half of the classes, then one at a time.
        check: reads the config, and raises an :class:`.InputError` where it cannot be used.

    Returns:
        The scenario's name.

    Raises:
        InputError: the file is there already or cannot be written, or the base or the scenario cannot be used.
    """
    if out.exists():
        raise InputError(f'{out} is there already; remove it, or choose another file with --out')
    scenario = scenario or default_scenario(found.num_classes)
    base = base.resolve()
    # A folder of the user's may move with all that is in it; the installed package stays where it is.
    named = base if base.is_relative_to(PACKAGE) else Path(os.path.relpath(base, out.resolve().parent))
    write_text(out, config_text(found, named.as_posix(), scenario))
    try:
        check(str(out))
    except InputError:
        out.unlink()
        raise
    return scenario
