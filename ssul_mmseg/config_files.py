"""Find the configs and the tables of runs that the package brings, by name."""
import difflib
from pathlib import Path

from .errors import InputError

CONFIG, TABLE = '.py', '.toml'
"""What the names of both kinds of files end in."""
KINDS = {CONFIG: 'config', TABLE: 'table'}
FOLDER = 'configs'
SHOWN = 3
"""How many suggestions a message shows."""


def folder() -> Path:
    """The folder of the package's configs: among its code where it was installed, at the top of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / FOLDER
    return installed if installed.is_dir() else package.parent / FOLDER


def names(kind: str) -> list[str]:
    """The names of all configs or tables of the package, such as 'ssul/voc_15-1' and 'tables/table1'.

    Args:
        kind: :data:`CONFIG` or :data:`TABLE`.
    """
    paths = (path.relative_to(folder()) for path in folder().rglob(f'*{kind}'))
    # What _base_ holds are parts of configs.
    return sorted(path.with_suffix('').as_posix() for path in paths if not path.parts[0].startswith('_'))


def find(given: str | Path, kind: str = CONFIG) -> Path:
    """Find a config or a table: the file of this path, else the package's of this name.

    A name is a path below the package's ``configs``, with or without ``configs/`` before it and the ending after it,
    or its last part alone where no other config shares that.

    Args:
        given: such as 'mine/voc_15-1.py', 'ssul/voc_15-1' or 'voc_15-1_m'.
        kind: :data:`CONFIG` or :data:`TABLE`.

    Raises:
        InputError: there is no such file and no such name, or several configs share it; names those that there are.
    """
    path = Path(given)
    if path.is_file():
        return path
    known = names(kind)
    # A path that does not exist stands for a name only as the documents write it: another may be a mistake.
    is_path = path.suffix == kind and path.parts[0] != FOLDER
    name = path.as_posix().removeprefix(f'{FOLDER}/').removesuffix(kind)
    if name in known and not is_path:
        return folder() / f'{name}{kind}'
    sharing = [other for other in known if _last(other) == name] if not is_path else []
    if len(sharing) == 1:
        return folder() / f'{sharing[0]}{kind}'
    if sharing:
        raise InputError(f'{len(sharing)} {KINDS[kind]}s are called {given}; give one of {", ".join(sharing)}')
    near = _near(path, name, known, kind)
    hint = f'; did you mean {" or ".join(near)}?' if near else '; ssul configs lists those of the package'
    raise InputError(f'there is no {KINDS[kind]} {given}{hint}')


def _last(name: str) -> str:
    """The last part of a name."""
    return name.rpartition('/')[2]


def _near(path: Path, name: str, known: list[str], kind: str) -> list[str]:
    """What may have been meant: a file beside the path that is not there, else names of the package."""
    beside = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob(f'*{kind}')], 1)
    if beside:
        return [str(path.with_name(beside[0]))]
    # A folder and a name are compared with such; a name alone with the last parts, of which many are alike.
    candidates = known if '/' in name else sorted({_last(other) for other in known})
    return difflib.get_close_matches(name, candidates, SHOWN)
