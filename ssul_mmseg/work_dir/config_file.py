"""Keep the config of a run in its work dir, so that the work dir alone says what its network is."""
import ast
import pprint
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from .files import write_text
from .layout import CONFIG

LEFT_OUT = ('work_dir', 'launcher', 'trust_pickled_weights')
"""Keys that belong to a call and not to the run: a work dir may be moved."""
WIDTH = 110


def write_config(work_dir: str | Path, config: Mapping[str, Any]) -> None:
    """Write a config of plain values as a Python file, a value a key, which every tool takes as a config too.

    Args:
        work_dir: of the run.
        config: the whole config, without bases.
    """
    lines = (f'{key} = {pprint.pformat(value, width=WIDTH, sort_dicts=False)}\n' for key, value in config.items()
             if key not in LEFT_OUT)
    write_text(Path(work_dir) / CONFIG, ''.join(lines))


def read_config_values(work_dir: str | Path) -> dict[str, Any]:
    """Read what :func:`write_config` wrote, without running any code in it.

    Raises:
        InputError: there is no such file, or it holds more than plain values.
    """
    path = Path(work_dir) / CONFIG
    remedy = 'give the config that was trained as well'
    try:
        statements = ast.parse(path.read_text(encoding='utf-8')).body
    except OSError as error:
        raise InputError(f'the config of the run in {work_dir} is not there ({path.name}: '
                         f'{error.strerror or error}); {remedy}') from error
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise InputError(f'{path} cannot be read ({error}); {remedy}') from error
    values: dict[str, Any] = {}
    for statement in statements:
        try:
            if not isinstance(statement, ast.Assign):
                raise ValueError('it is no value of a key')
            target, = statement.targets
            values[ast.unparse(target)] = ast.literal_eval(statement.value)
        except (ValueError, RecursionError) as error:
            raise InputError(f'line {statement.lineno} of {path} is not a plain value ({error}), and no code in it is '
                             f'run; {remedy}') from error
    return values
