"""Read a table of runs, a TOML file, and refuse what it cannot mean."""
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cli import parse_value
from ..config_files import TABLE, find
from ..errors import InputError
from ..scenario import SETTINGS

# The keys of a table and of its rows -> the type of their values.
TABLE_KEYS = {'work_dir': str, 'scenarios': list, 'settings': list, 'orders': dict, 'seeds': list, 'base_seed': int,
              'options': dict, 'rows': list}
ROW_KEYS = {'name': str, 'config': str, 'base': str, 'scenarios': list, 'seeds': list, 'options': dict, 'paper': list}
KINDS: dict[type, str] = {str: 'text', int: 'a whole number', list: 'a list', dict: 'a table of keys and values'}


@dataclass(frozen=True)
class Row:
    """A row of a table: a method with its options.

    Args:
        name: the method's name in results.
        config: the config file, or the name of one of the package's.
        scenarios: such as '15-1'.
        seeds: seeds.
        options: config values to change, dotted key to value.
        base: rows of the same base share task 0; '': this one shares it with none.
        paper: where the paper's numbers stand, see ``evaluation.compare.paper_row``; []: by its name.
    """

    name: str
    config: str
    scenarios: list[str]
    seeds: list[int]
    options: Mapping[str, Any]
    base: str = ''
    paper: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """A table of runs.

    Args:
        path: its file.
        work_dir: the folder of its runs.
        rows: its rows.
        settings: such as 'disjoint'; None: the config's own.
        orders: class orders by name; None: the config's own.
        options: config values to change in all runs.
        base_seed: seed of every task 0 that rows share, whatever their seeds; None: each seed has its own task 0.
    """

    path: Path
    work_dir: Path
    rows: list[Row]
    settings: Sequence[str | None]
    orders: Mapping[str | None, Sequence[int] | None]
    options: Mapping[str, Any]
    base_seed: int | None = None


def read_table(path: str | Path) -> Table:
    """Read a table.

    Args:
        path: the TOML file, or the name of one of the package's.

    Raises:
        InputError: the file is missing or no TOML, has an unknown key or a value of a wrong type, or names a config
            that does not exist.
    """
    path = find(path, TABLE)
    content = _read_toml(path)
    _check_keys(content, TABLE_KEYS, path, 'the table')
    rows = [_row(row, number, content, path) for number, row in enumerate(content.get('rows', []), 1)]
    if not rows:
        raise InputError(f'{path} has no rows; add at least one [[rows]] with a name and a config')
    settings, orders = content.get('settings', [None]), content.get('orders', {None: None})
    if not settings or any(setting not in (None, *SETTINGS) for setting in settings):
        raise InputError(f'{path}: settings are {settings}; choose of {", ".join(SETTINGS)}')
    if not orders or not all(order is None or isinstance(order, list) for order in orders.values()):
        raise InputError(f'{path}: orders are {orders}; give a name to each list of class ids, such as a = [2, 1, 3]')
    return Table(path, Path(content.get('work_dir', Path('work_dirs', path.stem))), rows, settings, orders,
                 _options(content, path, 'the table'), content.get('base_seed'))


def _read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file."""
    try:
        return tomllib.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise InputError(f'cannot read the table {path} ({error.strerror or error}); make it readable') from error
    except ValueError as error:
        raise InputError(f'{path} is no TOML ({error}); correct it there') from error


def _row(content: Any, number: int, table: Mapping[str, Any], path: Path) -> Row:
    """Read a row; scenarios and seeds are its own, else the table's."""
    where = f'row {number}'
    if not isinstance(content, dict):
        raise InputError(f'{path}: {where} is {content!r}; begin each row with [[rows]]')
    _check_keys(content, ROW_KEYS, path, where)
    for key in ('name', 'config'):
        if key not in content:
            raise InputError(f'{path}: {where} has no {key}; set it')
    where = f'row {number}, {content["name"]},'
    try:
        find(content['config'])
    except InputError as error:
        raise InputError(f'{path}: {where} cannot be run: {error}') from error
    scenarios = content.get('scenarios', table.get('scenarios', []))
    seeds = content.get('seeds', table.get('seeds', [0]))
    if not scenarios or not all(isinstance(name, str) and re.fullmatch(r'\d+(-\d+)+', name) for name in scenarios):
        raise InputError(f"{path}: {where} has the scenarios {scenarios}; give a list such as ['15-1', '15-5'], here "
                         'or for the whole table')
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise InputError(f'{path}: {where} has the seeds {seeds}; give a list of whole numbers such as [0, 1, 2]')
    return Row(content['name'], content['config'], scenarios, seeds, _options(content, path, where),
               content.get('base', ''), content.get('paper', []))


def _check_keys(found: Mapping[str, Any], known: Mapping[str, type], path: Path, where: str) -> None:
    """Refuse an unknown key, and a value of a wrong type."""
    for key, value in found.items():
        if key not in known:
            raise InputError(f'{path}: there is no key {key!r} in {where}; known: {", ".join(known)}')
        if not isinstance(value, known[key]) or value == '':
            raise InputError(f'{path}: {key} in {where} is {value!r}; it is {KINDS[known[key]]}')


def _options(content: Mapping[str, Any], path: Path, where: str) -> dict[str, Any]:
    """Config values to change; a text means what it means after --cfg-options, such as 'None'."""
    options = {}
    for key, value in content.get('options', {}).items():
        try:
            options[key] = parse_value(value) if isinstance(value, str) else value
        except ValueError as error:
            raise InputError(f'{path}: option {key} of {where} is {value!r} ({error}); correct it there') from error
    return options
