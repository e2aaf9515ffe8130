"""Find out what the values or colours of masks mean, and convert masks that cannot be used as they are."""
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from ..machine import usable_cores
from ..scenario import BACKGROUND, IGNORE, MAX_CLASSES
from ..work_dir.files import new_folder
from .class_index import ClassIndex
from .classes import BACKGROUND_NAME
from .image_files import decoding_faults
from .masks import read_mask
from .scan import scan_masks

COLOUR_MODES = ('RGB', 'RGBA')
IGNORED_NAMES = ('ignore', 'ignored', 'void')
"""Names in a palette file that stand for pixels that count nowhere."""
SHOWN = 12
"""How many colours a message shows."""
PALETTE_LINE = re.compile(r'\s*(?:(?P<name>.*?\D)[\s,;]+)?(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})'
                          r'(?:[\s,;]+(?P<behind>\S.*?))?\s*')


@dataclass(frozen=True)
class Meaning:
    """What masks hold.

    Args:
        classes: names, background first where there is one.
        palette: RGB colours of these; [] where the masks have none.
        values: new value by old value, where masks have to be converted.
        colours: new value by colour, likewise for masks of colours.
        has_background: whether a pixel can be of no class.
    """

    classes: list[str]
    palette: list[list[int]] = field(default_factory=list)
    values: dict[int, int] = field(default_factory=dict)
    colours: dict[tuple[int, int, int], int] = field(default_factory=dict)
    has_background: bool = True


def meaning_of(masks: Sequence[Path], names: Sequence[str] | None = None, palette: Path | None = None,
               background: bool = True) -> Meaning:
    """Find out what masks hold.

    Args:
        masks: all masks of a data set.
        names: of the classes, in the order of the values; None: 'class_1' and so on.
        palette: text file with the colours of the classes; needed for masks of colours alone.
        background: whether the value 0 is background; else it is the first class.

    Raises:
        InputError: a mask cannot be read, kinds are mixed, or names and values do not go together.
    """
    modes = {_mode(path): path for path in masks}
    coloured = [path for mode, path in modes.items() if mode in COLOUR_MODES]
    if coloured and len(coloured) < len(modes):
        other = next(path for mode, path in modes.items() if mode not in COLOUR_MODES)
        raise InputError(f'mask {coloured[0]} holds colours, but {other} holds values; give all masks of one kind')
    if coloured:
        if not background:
            raise InputError(f'the masks, such as {coloured[0]}, hold colours, among which the palette says which is '
                             'background, if any is; leave out --no-background')
        return _meaning_of_colours(masks, palette)
    if palette is not None:
        raise InputError(f'{palette} names colours, but the masks hold values; give their names with --names')
    return _meaning_of_values(masks, names, background)


def _mode(path: Path) -> str:
    """How a mask holds its pixels, by Pillow's name."""
    with decoding_faults(path, 'mask'), Image.open(path) as image:
        return image.mode


def _meaning_of_values(masks: Sequence[Path], names: Sequence[str] | None, background: bool) -> Meaning:
    """Masks of one channel, in which 255 is ignored."""
    index = ClassIndex(scan_masks([str(path) for path in masks], usable_cores()))
    held = index.counts() > 0
    values = [value for value in np.flatnonzero(held).tolist() if value != IGNORE and (value or not background)]
    if not values and held[IGNORE]:
        values = [IGNORE]  # a mask of black and white: white is the object
    if not values:
        raise InputError(f'the masks, such as {masks[0]}, hold no class, only 0; mark the classes in them by 1, 2, ...')
    first = [BACKGROUND_NAME] if background and not (names and names[0].casefold() == BACKGROUND_NAME) else []
    # Of values with gaps, and of white, the k-th is the k-th class, where no names say that the gaps are classes too.
    start = int(background)
    gaps = values[-1] == IGNORE or (names is None and values != list(range(start, start + len(values))))
    new = {value: place for place, value in enumerate(values, start=start)} if gaps else {}
    classes = [*first, *(names or [f'class_{value}' for value in values])]
    wrong = [value for value in values if new.get(value, value) >= len(classes)]
    if wrong:
        raise InputError(f'the masks, such as those beside {masks[0]}, hold the value {wrong[0]}, but the last name is '
                         f'that of the value {len(classes) - 1}, {classes[-1]!r}; name every value, a name a line')
    colours = _palette_of(masks[0])
    kept = colours[:len(classes)]
    if new and colours:
        old = [BACKGROUND, *values] if background else values
        kept = [colours[value] for value in old]
    return Meaning(classes, kept, new, has_background=background and bool(held[BACKGROUND]))


def _palette_of(path: Path) -> list[list[int]]:
    """RGB colours of an indexed image; [] where it has none, or shades of grey alone."""
    with Image.open(path) as image:
        flat = image.getpalette('RGB') if image.mode == 'P' else None
    colours = np.array(flat or [], np.uint8).reshape(-1, 3)
    if not len(colours) or np.all(colours == colours[:, :1]):
        return []
    return np.vstack([colours, np.zeros((IGNORE + 1 - len(colours), 3), np.uint8)]).tolist()


def read_palette(path: Path) -> list[tuple[str, tuple[int, int, int]]]:
    """Read names and colours, a line each: ``128 0 0 hammer`` or ``hammer 128 0 0``; a line may begin with #.

    Raises:
        InputError: a line is of another form, or a name or a colour comes twice.
    """
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f'palette {path} cannot be read ({getattr(error, "strerror", None) or "it is not UTF-8"}); '
                         'give a text file with a line such as "128 0 0 hammer" for each class') from error
    entries: list[tuple[str, tuple[int, int, int]]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith('#'):
            continue
        match = PALETTE_LINE.fullmatch(line)
        name = ((match['name'] or match['behind'] or '') if match else '').strip(' \t,;:')
        colour = tuple(map(int, match.group(2, 3, 4))) if match else ()
        if not name or len(colour) != 3 or max(colour) > 255:
            raise InputError(f'line {number} of palette {path} is {line.strip()!r}; it is red, green, blue from 0 to '
                             '255 and a name, such as "128 0 0 hammer"')
        entries.append((name, (colour[0], colour[1], colour[2])))
        if [entry[0] for entry in entries].count(name) > 1 or [entry[1] for entry in entries].count(colour) > 1:
            raise InputError(f'line {number} of palette {path} repeats a name or a colour; give each class one')
    if not entries:
        raise InputError(f'palette {path} names no colour; give a line such as "128 0 0 hammer" for each class')
    return entries


def _meaning_of_colours(masks: Sequence[Path], palette: Path | None) -> Meaning:
    """Masks of colours: the palette names them."""
    if palette is None:
        found: dict[int, None] = {}
        for path in masks[:SHOWN]:
            found.update(dict.fromkeys(np.unique(_codes(path)).tolist()))
        shown = ', '.join(str(_colour(code)) for code in list(found)[:SHOWN])
        raise InputError(f'the masks, such as {masks[0]}, hold colours ({shown}{", ..." if len(found) > SHOWN else ""})'
                         '; give --palette FILE, a text file with a line such as "128 0 0 hammer" for each class')
    entries = read_palette(palette)
    ignored = [colour for name, colour in entries if name.casefold() in IGNORED_NAMES]
    named = [(name, colour) for name, colour in entries if name.casefold() not in IGNORED_NAMES]
    # Background is first, wherever its line stands.
    named.sort(key=lambda entry: entry[0].casefold() != BACKGROUND_NAME)
    has_background = bool(named) and named[0][0].casefold() == BACKGROUND_NAME
    if len(named) <= has_background:
        raise InputError(f'palette {palette} names no class beside background and ignored pixels; add a line for each')
    colours = {colour: value for value, (_, colour) in enumerate(named)}
    return Meaning([name for name, _ in named], [list(colour) for _, colour in named],
                   colours={**colours, **dict.fromkeys(ignored, IGNORE)}, has_background=has_background)


def _codes(path: Path) -> np.ndarray:
    """The colours of a mask as one number each, int32 (H, W)."""
    with decoding_faults(path, 'mask'), Image.open(path) as image:
        pixels = np.array(image.convert('RGB')).astype(np.int32)
    return (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]


def _colour(code: int) -> tuple[int, int, int]:
    """Red, green and blue of a number."""
    return code >> 16, code >> 8 & 0xFF, code & 0xFF


def convert(folder: Path, masks: Sequence[Path], meaning: Meaning, target: Path) -> None:
    """Write the masks of a folder as indexed PNG files of the new values, all or none.

    Args:
        folder: where they lie.
        masks: the masks.
        meaning: what they hold.
        target: the new folder.

    Raises:
        InputError: a mask holds a colour or a value without a meaning, the folder is there already, or cannot be
            written.
    """
    table = np.array(meaning.palette or [], np.uint8).reshape(-1, 3)
    with new_folder(target, 'remove it, or name it as the folder of the masks') as begun:
        for path in masks:
            image = Image.fromarray(_new_values(path, meaning))
            if len(table):
                image.putpalette(np.vstack([table, np.full((IGNORE + 1 - len(table), 3), IGNORE, np.uint8)]).tobytes())
            file = begun / path.relative_to(folder).with_suffix('.png')
            file.parent.mkdir(parents=True, exist_ok=True)
            image.save(file)


def _new_values(path: Path, meaning: Meaning) -> np.ndarray:
    """A mask's new values, uint8 (H, W)."""
    if meaning.colours:
        return _values_of_colours(path, _codes(path), meaning.colours)
    table = np.zeros(IGNORE + 1, np.uint8)
    table[IGNORE] = IGNORE
    for old, new in meaning.values.items():
        table[old] = new
    return table[read_mask(str(path))]


def _values_of_colours(path: Path, codes: np.ndarray, colours: Mapping[tuple[int, int, int], int]) -> np.ndarray:
    """Values of a mask's colours.

    Raises:
        InputError: a colour has no value.
    """
    values = np.full(codes.shape, -1, np.int16)
    for (red, green, blue), value in colours.items():
        values[codes == red << 16 | green << 8 | blue] = value
    if values.min(initial=0) < 0:
        row, column = np.argwhere(values < 0)[0].tolist()
        raise InputError(f'mask {path} holds the colour {_colour(int(codes[row, column]))} in column {column} of row '
                         f'{row}, which the palette does not name; add it, as "ignore" where it counts nowhere, or '
                         'correct the mask')
    return values.astype(np.uint8)


def check_number(classes: Sequence[str]) -> None:
    """Refuse more classes than a mask can hold."""
    if len(classes) > MAX_CLASSES:
        raise InputError(f'there are {len(classes)} classes, but masks of 8 bits hold at most {MAX_CLASSES}')
