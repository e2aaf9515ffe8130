"""Tell a user's mistake in a config apart from a mistake in the code of a method."""
import contextlib
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import Config

from ..errors import InputError

PACKAGE = str(Path(__file__).resolve().parents[1])
LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ('purelib', 'platlib', 'stdlib', 'platstdlib'))
CODE_ERRORS = (NameError, AttributeError, TypeError, ImportError, NotImplementedError)
"""Errors that Python raises where code is wrong."""
SELF_REPORTED = (InputError, OSError, MemoryError, torch.cuda.OutOfMemoryError)
"""Errors that other code reports."""
# Library functions through which wrong code raises its error when it asks for an attribute that does not exist.
LOOKUPS = ('__getattr__', '__getattribute__')


def is_programming_error(error: BaseException) -> bool:
    """Whether an error comes from wrong code of this package or of a user's method, not from a value of a config.

    It does if it is of a kind that wrong code raises and no library raised it: a library that gets a wrong value from
    a config raises the same kinds.
    """
    if not isinstance(error, CODE_ERRORS):
        return False
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name not in LOOKUPS]
    if not frames:
        return False
    # A part of the standard library that has no file, or of a library that Cython compiled, whose source is elsewhere.
    if frames[-1].filename.startswith('<frozen') or frames[-1].filename.endswith('.pyx'):
        return False
    file = str(Path(frames[-1].filename).resolve())
    return file.startswith(PACKAGE) or not file.startswith(LIBRARIES)


@contextlib.contextmanager
def config_faults(config: Config) -> Iterator[None]:
    """Turn errors of the classes that a config names into one sentence; errors of wrong code stay as they are.

    Args:
        config: the config, for its file's name.

    Raises:
        InputError: a value of the config cannot be used.
    """
    try:
        yield
    except SELF_REPORTED:
        raise
    except Exception as error:
        if is_programming_error(error):
            raise
        raise InputError(f'the config {config.filename} cannot be used ({type(error).__name__}: {error}); correct it, '
                         'or the --cfg-options') from error
