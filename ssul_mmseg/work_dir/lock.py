"""Locks between processes, over a shared folder too; a lock ends with its process, even a killed one."""
import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from .layout import LOCK

# Linux's struct flock, as fcntl(2) has it: type, whence, start, length, process.
FLOCK = 'hhqqi'


@contextlib.contextmanager
def lock_work_dir(work_dir: str | Path) -> Iterator[None]:
    """Keep a second run out of a work dir.

    Raises:
        InputError: another run is at work there, or it cannot be written to.
    """
    lock = take_lock(Path(work_dir) / LOCK)
    if lock is None:
        raise InputError(f'another run is at work in {work_dir}; wait for it, or choose another --work-dir')
    try:
        yield
    finally:
        os.close(lock)


def take_lock(path: Path) -> int | None:
    """Take the lock of a file, which is made where it is missing; None if another process holds it.

    Unlike a ``flock``, no child of this process inherits it. Do not open the file again in this process: closing any of
    its descriptors would end the lock.

    Returns:
        The descriptor that holds the lock until it is closed.

    Raises:
        InputError: the folder cannot be written to.
    """
    try:
        os.makedirs(path.parent, exist_ok=True)
        lock = os.open(path, os.O_CREAT | os.O_WRONLY)
    except OSError as error:
        raise InputError(f'work dir {path.parent} cannot be written ({error.strerror}); choose another '
                         '--work-dir') from error
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock of a file; this only asks, so that it is in nobody's way.

    Of a lock that this process itself holds nothing is said, and asking would end it.
    """
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK
    finally:
        os.close(file)
