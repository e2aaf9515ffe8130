"""Write files whole or not at all, so that a crash leaves no half of one; report files that are torn all the same."""
import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError

NUMBERS = re.compile(r'(?<=\[)\n *-?\d+(,\n *-?\d+)*\n *(?=\])')


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name, flush it to disk and rename it into place.

    Whoever reads ``path`` sees the old content or the whole content, never a part.

    Args:
        path: the file to write; its folder is made where it is missing.
        write: called with the open binary file.

    Raises:
        InputError: the disk is full or the folder cannot be written to; ``path`` is left as it was.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, 'wb') as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise InputError(f'cannot write {path} ({error.strerror or error}); what was there before is untouched: '
                         'free space or choose another folder, then run again with --resume') from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(target: Path, remedy: str) -> Iterator[Path]:
    """Make a folder, whole or not at all: what the context writes into the path that it gets becomes ``target``.

    Args:
        target: the folder, which must not be there yet.
        remedy: what to do where it is there, the end of a sentence.

    Raises:
        InputError: it is there already, or cannot be written.
    """
    if target.exists():
        raise InputError(f'{target} is there already; {remedy}')
    begun = target.with_name(f'.{target.name}.{os.getpid()}.tmp')
    try:
        yield begun
        os.replace(begun, target)
    except OSError as error:
        raise InputError(f'{target} cannot be written ({error.strerror or error}); free space, or choose a place that '
                         'can be written') from error
    finally:
        shutil.rmtree(begun, ignore_errors=True)


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files of killed processes from a folder that no other process writes to."""
    for path in Path(folder).glob('.*.*[0-9].tmp'):
        path.unlink()


def _flush_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: str | Path, content: Any) -> None:
    """Write human-readable JSON atomically; NaN, which JSON lacks, must be ``None`` already."""
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    # A matrix has a line for each row. A line break is never inside a text, where JSON writes it as \n.
    write_text(path, NUMBERS.sub(lambda found: ' '.join(found[0].split()), text) + '\n')


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing, torn, or no JSON.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
        json.dumps(content, ensure_ascii=False).encode()  # JSON can hold halves of characters, which nothing can write
        return content
    except OSError as error:
        raise InputError(f'cannot read {path} ({error.strerror or error})') from error
    except (ValueError, RecursionError) as error:
        raise InputError(f'{path} is not whole JSON ({error}); delete it and run again') from error


def digest(content: bytes) -> str:
    """A short checksum (BLAKE2b, 128 bits, hexadecimal)."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()
