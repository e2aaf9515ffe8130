"""Scan masks for the values that each holds, in several processes; detect that files have changed since."""
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from itertools import islice
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import InputError
from ..machine import usable_cores
from ..work_dir.files import digest
from .masks import read_mask

T = TypeVar('T')
MASK_VALUES = 256
FEW_MASKS = 64
"""Below this, starting worker processes takes longer than the scan."""
MANY_MASKS = 200
"""From here on the scan takes long enough for a progress bar."""
CHUNK = 32
"""Masks that a worker scans between two reports."""
MANY_FILES = 5000
"""From here on reading files takes long enough for a progress bar."""


def fingerprint_of(paths: Sequence[str]) -> str:
    """Digest of the path, size and time of modification of each file.

    Raises:
        InputError: a file is missing or out of reach.
    """
    try:
        states = np.array([(state.st_size, state.st_mtime_ns) for state in map(os.stat, paths)], dtype=np.int64)
    except OSError as error:
        raise InputError(f'mask {error.filename} is missing or out of reach ({error.strerror}); restore it or remove '
                         'it from the image list') from error

    @cache  # masks are many, their folders few
    def absolute(folder: str) -> str:
        return os.path.join(os.path.abspath(folder), '')

    names = [absolute(path[:(cut := path.rfind('/') + 1)]) + path[cut:] for path in paths]
    return digest(os.fsencode('\0'.join(names)) + states.tobytes())


def scan_masks(paths: Sequence[str], workers: int, quiet: bool = False) -> np.ndarray:
    """Scan all masks, behind a progress bar if there are many and it is wanted: uint8 (num_images, 32)."""
    chunks = [paths[start:start + CHUNK] for start in range(0, len(paths), CHUNK)]
    found = [np.zeros((0, MASK_VALUES // 8), dtype=np.uint8)]
    with progress_bar(len(paths) >= MANY_MASKS and not quiet) as progress:
        bar = progress.add_task('Scanning masks', total=len(paths))
        for bits in in_processes(_scan_chunk, chunks, workers if len(paths) >= FEW_MASKS else 1):
            found.append(bits)
            progress.update(bar, advance=len(bits), refresh=True)
    return np.concatenate(found)


def contents_digest(paths: Sequence[str], quiet: bool = False) -> str:
    """Digest of the contents of files in their order; folders and times of modification do not change it.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    def of_file(path: str) -> bytes:
        with open(path, 'rb') as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()

    whole = hashlib.blake2b(digest_size=16)
    try:
        # Threads are enough: reading and hashing release Python's lock.
        shown = len(paths) >= MANY_FILES and not quiet
        with ThreadPoolExecutor(usable_cores()) as pool, progress_bar(shown) as progress:
            bar = progress.add_task('Reading images and masks', total=len(paths))
            for start in range(0, len(paths), MANY_FILES):
                part = paths[start:start + MANY_FILES]
                whole.update(b''.join(pool.map(of_file, part)))
                progress.update(bar, advance=len(part), refresh=True)
    except OSError as error:
        raise InputError(f'{error.filename} is missing or cannot be read ({error.strerror}); restore it or remove it '
                         'from the image list') from error
    return whole.hexdigest()


def progress_bar(shown: bool) -> Progress:
    """Make a progress bar with time to go. Its user refreshes it: a refreshing thread would not survive a fork."""
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True, disable=not shown)


def in_processes(read: Callable[[Sequence], T], chunks: Sequence[Sequence], workers: int) -> Iterator[T]:
    """Read chunks of files in order, in this process if ``workers`` is below 2; the first error in order is raised.

    Args:
        read: reads a chunk.
        chunks: the chunks.
        workers: number of processes.
    """
    if workers < 2:
        yield from map(read, chunks)
        return
    workers = min(workers, len(chunks))
    ahead = iter(chunks)
    try:
        with ProcessPoolExecutor(workers, get_context('fork'), _end_with_parent) as pool:
            # A few at a time. After an error map() would cancel what it has submitted, and where cancelled chunks are
            # left the pool of Python 3.11.2 may wait for ever.
            given = deque(pool.submit(read, chunk) for chunk in islice(ahead, 2 * workers))
            while given:
                result = given.popleft().result()
                given.extend(pool.submit(read, chunk) for chunk in islice(ahead, 1))
                yield result
    except BrokenProcessPool as error:
        raise InputError('a process that scans masks was killed, most often for lack of memory; free some, then run '
                         'again') from error


def _end_with_parent() -> None:
    """End this worker process when its parent ends; a worker of a killed parent would wait for work for ever."""
    parent = parent_process()
    assert parent is not None  # this runs in a worker

    def watch() -> None:
        parent.join()
        os._exit(1)
    Thread(target=watch, daemon=True).start()


def _scan_chunk(paths: Sequence[str]) -> np.ndarray:
    """Find the values of some masks: packed bits, uint8 (num_paths, 32)."""
    counts = np.stack([np.bincount(read_mask(path).ravel(), minlength=MASK_VALUES) for path in paths])
    return np.packbits(counts > 0, axis=1)
