"""Memory, disk and cores of this machine, within the limits of a container or a job scheduler."""
import contextlib
import ctypes
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import torch
from mmengine.dist import get_world_size

MEMORY = Path('/proc/meminfo')
GROUPS = Path('/proc/self/cgroup')
STATUS, PEAK_RESET = Path('/proc/self/status'), Path('/proc/self/clear_refs')
# cgroup name in GROUPS -> (root folder, limit file, usage file, name of the reclaimable cache in memory.stat).
# cgroup v2 has an empty name. The kernel frees the reclaimable cache when memory is short, so it counts as free.
MEMORY_GROUPS = {
    '': (Path('/sys/fs/cgroup'), 'memory.max', 'memory.current', 'inactive_file'),
    'memory': (Path('/sys/fs/cgroup/memory'), 'memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'),
}
# Environment variables in which launchers pass the number of processes on this machine.
LOCAL_SIZES = ('LOCAL_WORLD_SIZE', 'SLURM_NTASKS_PER_NODE', 'OMPI_COMM_WORLD_LOCAL_SIZE')
# glibc's malloc.h: parameters of mallopt, and their values where nobody sets them.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
DEFAULTS = {TRIM_THRESHOLD: 128 * 1024, MMAP_MAX: 65536}
LARGEST_THRESHOLD = 2 ** 31 - 1
KEPT_SHARE = 8
"""At most this part of the free memory is kept for later tensors."""


def free_memory() -> int:
    """Bytes of memory that this process can still allocate."""
    found = re.search(r'^MemAvailable:\s+(\d+) kB', MEMORY.read_text(), re.M) if MEMORY.is_file() else None
    free = int(found[1]) * 1024 if found else os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    # The tightest limit decides: that of the machine, of the process's own group, or of a group above it.
    for kind, (root, limit, used, reclaimable) in MEMORY_GROUPS.items():
        for folder in _group_folders(kind, root):
            with contextlib.suppress(OSError, ValueError):  # the group does not exist, or its limit is 'max'
                left = int((folder / limit).read_text()) - int((folder / used).read_text())
                cache = re.search(rf'^{reclaimable} (\d+)$', (folder / 'memory.stat').read_text(), re.M)
                free = min(free, left + int(cache[1] if cache else 0))
    return max(0, free)


@contextlib.contextmanager
def reused_memory() -> Iterator[Callable[[], None]]:
    """Let the tensors of an iteration on a CPU take the memory that those of the last one have freed.

    glibc maps each block of 32 MB or more anew and unmaps it when it is freed; the system then fills its pages with
    zeros, one by one at first use, which can take as long as the arithmetic (docs/performance.md). Inside of the
    context freed memory stays with the process, at most an eighth of what is free now. Without glibc nothing changes,
    nor on a machine whose GPU computes.

    Yields:
        A function that gives what is kept back to the system.
    """
    library = None if torch.cuda.is_available() else ctypes.CDLL(None)
    if library is None or not hasattr(library, 'mallopt'):
        yield lambda: None
        return
    library.mallopt(MMAP_MAX, 0)
    library.mallopt(TRIM_THRESHOLD, min(LARGEST_THRESHOLD, free_memory() // KEPT_SHARE))
    try:
        yield lambda: library.malloc_trim(0)
    finally:
        for parameter, value in DEFAULTS.items():
            library.mallopt(parameter, value)
        library.malloc_trim(0)


def watch_memory() -> Callable[[], int | None]:
    """Watch from now on how much memory this process uses: that of its GPU where there is one, else its own.

    Returns:
        A function that gives the most bytes used at any moment since; None where the system does not say.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated
    try:
        PEAK_RESET.write_text('5')  # Linux: the peak of resident memory starts anew
    except OSError:
        return lambda: None
    return _peak_memory


def _peak_memory() -> int | None:
    """The most resident memory since the last reset, in bytes."""
    found = re.search(r'^VmHWM:\s+(\d+) kB', STATUS.read_text(), re.M)
    return int(found[1]) * 1024 if found else None


def _group_folders(kind: str, root: Path) -> list[Path]:
    """Folders of this process's cgroup of a kind and of all cgroups above it, whose limits hold too."""
    listed = GROUPS.read_text() if GROUPS.is_file() else ''
    found = re.search(rf'^\d+:{kind}:/(.*)$', listed, re.M)
    group = PurePosixPath(found[1] if found else '')
    return [root / above for above in (group, *group.parents)]


def free_disk(folder: Path) -> int:
    """Bytes free on the disk of a folder; make the folder if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def usable_cores() -> int:
    """Cores that this process may use; a job scheduler may allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def processes_here() -> int:
    """Processes of this run on this machine; all processes of the run where the launcher does not report the number."""
    sizes = [os.environ[name] for name in LOCAL_SIZES if os.environ.get(name, '').isdigit()]
    return min(max(1, int(sizes[0])), get_world_size()) if sizes else get_world_size()
