"""Read the names, colours and ids of a data set's classes, and check them before anything is learned."""
import difflib
import unicodedata
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from mmseg.registry import DATASETS

from ..errors import InputError

BACKGROUND_NAME = 'background'
NO_TEXT = ('Cc', 'Cs', 'Zl', 'Zp')
"""Unicode's control characters, halves of characters and line ends: they break tables, terminals or files."""


def metainfo_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read an mmseg data set's metainfo without building it; {} where only its constructor knows the classes.

    Args:
        config: the data set's config.
    """
    load = getattr(DATASETS.get(config['type']), '_load_metainfo', None)
    metainfo, own = load(config.get('metainfo')) if load else {}, config.get('metainfo') or {}
    if 'classes' in own and 'palette' not in own:
        metainfo.pop('palette', None)  # the palette of the class, which belongs to other classes
    return metainfo


def has_background(metainfo: Mapping[str, Any]) -> bool:
    """Whether background is the first class of a data set; mmseg spells it with a small or a capital letter."""
    return _is_background(metainfo['classes'][0])


def _is_background(name: str) -> bool:
    """Whether a name is that of the background."""
    return name.strip().casefold() == BACKGROUND_NAME


def check_number(names: Sequence[str], num_classes: int, dataset: str) -> None:
    """Refuse a data set of another number of classes than the scenario's.

    Args:
        names: of its classes, without background.
        num_classes: the scenario's.
        dataset: its type, for messages.

    Raises:
        InputError: the numbers differ.
    """
    if len(names) != num_classes:
        raise InputError(f'the scenario is about {num_classes} classes, but {dataset} has {len(names)}; set '
                         f'scenario.num_classes={len(names)}')


def class_names(metainfo: Mapping[str, Any], dataset: str) -> tuple[str, ...]:
    """Names of the classes without background, stripped: a few names of mmseg's data sets have spaces around them.

    Results, memories and weights identify a class by its name, so a name must be unique and fit into a table.

    Args:
        metainfo: of the data set.
        dataset: its type, for messages.

    Raises:
        InputError: there are no names, or one is not text, is empty, breaks a table, or is that of two classes.
    """
    names = metainfo.get('classes')
    if not isinstance(names, list | tuple) or not names:
        raise InputError(f'the classes of {dataset} are {names!r}; set metainfo.classes to a list of their names')
    for name in names:
        fault = _name_fault(name)
        if fault:
            raise InputError(f'the class name {name!r} of {dataset} {fault}; give it another name in metainfo.classes')
    plain = [name.strip() for name in names]
    for place, name in enumerate(plain):
        if place and _is_background(name):
            raise InputError(f'{name!r} is class {place} of {dataset}, counted from 0, but background is the first of '
                             'the classes; put it there, or give this class another name')
        if plain.index(name) < place:
            raise InputError(f'the classes {plain.index(name)} and {place} of {dataset}, counted from 0, are both '
                             f'called {name!r}; give every class a name of its own in metainfo.classes')
    return tuple(plain[has_background(metainfo):])


def _name_fault(name: object) -> str | None:
    """Say why something is no name of a class, or None."""
    if not isinstance(name, str):
        return 'is not text'
    if not name.strip():
        return 'is empty'
    if '|' in name:
        return "holds '|', which separates the columns of a table"
    if any(unicodedata.category(character) in NO_TEXT for character in name):
        return 'holds a line end or another character that cannot be shown'
    return None


def class_colours(metainfo: Mapping[str, Any], dataset: str) -> list[list[int]]:
    """RGB colours of the classes, 0 to 255, background left out; [] where there is no palette.

    Args:
        metainfo: of the data set, its names checked by :func:`class_names`.
        dataset: its type, for messages.

    Raises:
        InputError: there are not as many colours as classes, or one is not three whole numbers from 0 to 255.
    """
    palette = metainfo.get('palette')
    palette = [] if palette is None else palette
    names = metainfo['classes']
    if isinstance(palette, str | Mapping) or not hasattr(palette, '__len__'):
        raise InputError(f'metainfo.palette of {dataset} is {palette!r}; it is a list of RGB colours, one per class')
    for number, colour in enumerate(palette):
        if not _is_colour(colour):
            raise InputError(f'colour {number} of metainfo.palette of {dataset}, counted from 0, is {colour!r}; a '
                             'colour is red, green and blue, three whole numbers from 0 to 255')
    if len(palette) not in (0, len(names)):
        raise InputError(f'metainfo.palette of {dataset} holds {len(palette)} colours for {len(names)} classes; give '
                         'each class one, background too where it is among the classes')
    return [list(map(int, colour)) for colour in palette[has_background(metainfo):]]


def _is_colour(colour: Any) -> bool:
    """Whether something is three whole numbers from 0 to 255."""
    if isinstance(colour, str | Mapping) or not hasattr(colour, '__len__') or len(colour) != 3:
        return False
    return all(isinstance(x, Integral) and not isinstance(x, bool) and 0 <= int(x) <= 255 for x in colour)


def class_ids(order: Sequence[int | str], names: Sequence[str]) -> list[int]:
    """Turn a list of class ids and names into ids; the first name of ``names`` has the id 1.

    Args:
        order: ids (3) and names ('3' is the class of that name).
        names: of all classes without background, in the data set's order.

    Raises:
        InputError: a name is of no class, or a class is missing or repeated.
    """
    ids = []
    for entry in order:
        if isinstance(entry, str) and entry.strip() not in names:
            near = difflib.get_close_matches(entry, names, 1)
            hint = f'did you mean {near[0]!r}?' if near else f'known: {", ".join(names)}'
            raise InputError(f'scenario.order names {entry!r}, which is no class of the data set; {hint}')
        ids.append(names.index(entry.strip()) + 1 if isinstance(entry, str) else entry)
    faults = {'missing': [name for i, name in enumerate(names, start=1) if i not in ids],
              'repeated': [name for i, name in enumerate(names, start=1) if ids.count(i) > 1]}
    listed = '; '.join(f'{fault}: {", ".join(found)}' for fault, found in faults.items() if found)
    if listed:
        raise InputError(f'scenario.order must name every class once; {listed}')
    return ids
