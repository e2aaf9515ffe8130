"""What the work dirs say of the runs of a table: which are done, which are at work, how long they took."""
from collections.abc import Collection, Iterable
from statistics import mean

from ..errors import InputError
from ..work_dir.layout import LOCK, RESULTS
from ..work_dir.lock import is_locked
from ..work_dir.results import read_results
from .plan import Job

CLAIM = '.claim'
"""Held by the worker that runs a job, from before its process starts until after it has ended."""


def seconds_of(job: Job) -> float | None:
    """How long a run took whose results hold its last task; None if they do not, or are torn."""
    try:
        document = read_results(job.folder / RESULTS)
    except InputError:
        return None
    seconds = {entry['task']: entry['seconds'] for entry in document['tasks']}
    if job.trains_base:
        return seconds.get(0)
    if document['final']['all'] is None:
        return None
    # A task 0 that was copied tells how long another run took.
    return sum(spent for task, spent in seconds.items() if task > 0 or not job.base)


def is_running(job: Job) -> bool:
    """Whether a process is at work on a run, on whatever machine; do not ask of one that this process has claimed.

    A process of which the worker was killed goes on, and holds the lock of the work dir alone.
    """
    return is_locked(job.folder / CLAIM) or is_locked(job.folder / LOCK)


def states(jobs: Iterable[Job]) -> dict[Job, str]:
    """Say of each run whether it is done, running, waiting for the run that trains its task 0, or to do."""
    found: dict[Job, str] = {}
    for job in jobs:
        if seconds_of(job) is not None:
            found[job] = 'done'
        elif is_running(job):
            found[job] = 'running'
        else:
            found[job] = 'waiting' if job.base and seconds_of(job.base) is None else 'to do'
    return found


def time_to_go(left: Collection[Job], took: dict[Job, float], at_once: int) -> float | None:
    """Seconds that runs will take: each as the mean of its row's finished runs, else as that of all of its stage.

    Args:
        left: the runs that are not done.
        took: seconds of those that are.
        at_once: how many run at the same time.

    Returns:
        None as long as no run has ended.
    """
    if not took:
        return None
    expected = 0.0
    for job in left:
        stage = [other for other in took if other.trains_base == job.trains_base] or [*took]
        alike = [other for other in stage if other.row == job.row] or stage
        expected += mean(took[other] for other in alike)
    return expected / max(1, at_once)
