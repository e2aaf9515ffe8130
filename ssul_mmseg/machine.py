"""What this machine has: memory, disk and cores, as far as a container or a job scheduler lets them be taken."""
import contextlib
import os
import re
from pathlib import Path, PurePosixPath

from mmengine.dist import get_world_size

MEMORY = Path('/proc/meminfo')
GROUPS = Path('/proc/self/cgroup')
# Of control groups, by what GROUPS calls them (version 2: nothing): where their folders lie, the files of the limit and
# of what is used, and how of that the pages are counted that are given back when memory is short: they repeat files.
MEMORY_GROUPS = {
    '': (Path('/sys/fs/cgroup'), 'memory.max', 'memory.current', 'inactive_file'),
    'memory': (Path('/sys/fs/cgroup/memory'), 'memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'),
}
# What launchers say of the number of processes on this machine.
LOCAL_SIZES = ('LOCAL_WORLD_SIZE', 'SLURM_NTASKS_PER_NODE', 'OMPI_COMM_WORLD_LOCAL_SIZE')


def free_memory() -> int:
    """Bytes of memory that can still be taken."""
    found = re.search(r'^MemAvailable:\s+(\d+) kB', MEMORY.read_text(), re.M) if MEMORY.is_file() else None
    free = int(found[1]) * 1024 if found else os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    for kind, (root, limit, used, reclaimable) in MEMORY_GROUPS.items():
        for folder in _group_folders(kind, root):
            with contextlib.suppress(OSError, ValueError):  # there is no such group, or no limit ('max')
                left = int((folder / limit).read_text()) - int((folder / used).read_text())
                given_back = re.search(rf'^{reclaimable} (\d+)$', (folder / 'memory.stat').read_text(), re.M)
                free = min(free, left + int(given_back[1] if given_back else 0))
    return max(0, free)


def _group_folders(kind: str, root: Path) -> list[Path]:
    """Folders of this process's control group of a kind and of those above it, whose limits hold too."""
    listed = GROUPS.read_text() if GROUPS.is_file() else ''
    found = re.search(rf'^\d+:{kind}:/(.*)$', listed, re.M)
    group = PurePosixPath(found[1] if found else '')
    return [root / above for above in (group, *group.parents)]


def free_disk(folder: Path) -> int:
    """Bytes free on the disk of a folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def usable_cores() -> int:
    """Cores that this process may use, which a job scheduler keeps below those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def processes_here() -> int:
    """Processes of this run on this machine; where no launcher tells, all of them."""
    told = [os.environ[name] for name in LOCAL_SIZES if os.environ.get(name, '').isdigit()]
    return min(max(1, int(told[0])), get_world_size()) if told else get_world_size()
