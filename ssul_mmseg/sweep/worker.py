"""A worker: runs the jobs of a table that no other worker has, in processes of their own, until none is left for it."""
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..evaluation.tables import duration
from ..work_dir.layout import LOCK
from ..work_dir.lock import is_locked, take_lock
from .plan import Job
from .state import CLAIM, is_running, seconds_of, time_to_go

LOG = 'sweep.log'
"""What a run's process has printed, in its work dir."""
POLL = 0.5
"""Seconds between two looks at the processes."""
LOOK = 2.0
"""Seconds after which a worker with a free slot looks what others have left or ended."""
INTERVAL = 60.0
"""Seconds between two lines on runs at work."""


@dataclass
class _Process:
    """A run at work.

    Args:
        job: the run.
        process: its process.
        claim: descriptor of its claim.
        slot: index of the worker's slot that it takes.
    """

    job: Job
    process: subprocess.Popen
    claim: int
    slot: int


class Worker:
    """Runs jobs, several at once if it has several slots.

    Any number of workers, on any number of machines, may work on the same jobs in a shared folder: each job is claimed
    by a lock, which ends with its worker.

    Args:
        jobs: what to run, each after the one that it starts from.
        trainer: the command that trains, before its arguments.
        slots: for each process that may run at once the environment variables that it gets.
        show: shows a line.
    """

    def __init__(self, jobs: Sequence[Job], trainer: Sequence[str | Path], slots: Sequence[Mapping[str, str]],
                 show: Callable[[str], object]) -> None:
        self.jobs = jobs
        self.trainer = trainer
        self.slots = slots
        self.show = show
        self.took: dict[Job, float] = {}
        self.failed: dict[Job, str] = {}
        self._processes: list[_Process] = []
        self._shown = time.monotonic()

    def run(self) -> None:
        """Run until nothing is left that this worker can do; what failed is in :attr:`failed`."""
        self._note_done(self.jobs)
        self._show('the sweep begins')
        looked = 0.0
        try:
            while True:
                if self._collect() or time.monotonic() - looked > LOOK:
                    looked = time.monotonic()
                    self._start_jobs()
                    if not self._processes and not self._waits():
                        break
                self._show_processes()
                time.sleep(POLL)
        finally:
            self._stop()

    @property
    def left(self) -> list[Job]:
        """The jobs that are neither done nor have failed here."""
        return [job for job in self.jobs if job not in self.took and job not in self.failed]

    def _note_done(self, jobs: Sequence[Job]) -> None:
        """Note which jobs are done, whoever did them."""
        for job in jobs:
            seconds = None if job in self.took else seconds_of(job)
            if seconds is not None:
                self.took[job] = seconds

    def _own(self) -> set[Job]:
        """The jobs at work here."""
        return {run.job for run in self._processes}

    def _elsewhere(self, job: Job) -> bool:
        """Whether another worker is at work on a job."""
        return job not in self._own() and is_running(job)

    def _is_ready(self, job: Job) -> bool:
        """Whether what a job starts from is there."""
        if job.base is not None:
            self._note_done([job.base])
        return job.base is None or job.base in self.took

    def _start_jobs(self) -> None:
        """Start as many jobs as there are free slots."""
        taken = {run.slot for run in self._processes}
        free = [slot for slot in range(len(self.slots)) if slot not in taken]
        for job in self.left:
            if not free:
                return
            if job not in self._own() and self._is_ready(job) and self._start(job, free[0]):
                del free[0]

    def _start(self, job: Job, slot: int) -> bool:
        """Claim a job and start it; False if it is done or at work elsewhere."""
        claim = take_lock(job.folder / CLAIM)
        if claim is None:
            return False
        # Its worker may have ended since we looked, with the job done, or without its process, which goes on.
        self._note_done([job])
        if job in self.took or is_locked(job.folder / LOCK):
            os.close(claim)
            return False
        command = [*self.trainer, *job.arguments]
        with open(job.folder / LOG, 'w') as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       env={**os.environ, **self.slots[slot]})
        self._processes.append(_Process(job, process, claim, slot))
        self._show(f'{job.title} begins')
        return True

    def _collect(self) -> bool:
        """Take up what has ended; whether anything has."""
        ended = [run for run in self._processes if run.process.poll() is not None]
        for run in ended:
            self._processes.remove(run)
            os.close(run.claim)
            self._note_done([run.job])
            if run.job in self.took:
                self._show(f'{run.job.title} is done')
            elif not is_locked(run.job.folder / LOCK):  # else a process that outlived its worker has it
                self.failed[run.job] = f'{_last_line(run.job)} (exit code {run.process.returncode})'
                self._show(f'{run.job.title} failed: {self.failed[run.job]}')
        return bool(ended)

    def _waits(self) -> bool:
        """Whether a job of this worker can begin when another worker has ended what it starts from."""
        return any(job.base and not self._is_ready(job) and self._elsewhere(job.base) for job in self.left)

    def _stop(self) -> None:
        """End the processes; another worker, or this command once more, goes on from their checkpoints."""
        for run in self._processes:
            run.process.terminate()
        for run in self._processes:
            run.process.wait()
            os.close(run.claim)

    def _show(self, event: str) -> None:
        """Show what has happened, how far the table is, and the time to go."""
        left = self.left
        others = sum(map(self._elsewhere, left))
        parts = [f'{len(self.took)}/{len(self.jobs)} done', f'{len(self._processes)} at work here']
        parts += [f'{others} elsewhere'] if others else []
        parts += [f'{len(self.failed)} failed'] if self.failed else []
        seconds = time_to_go(left, self.took, min(len(left), max(len(self._processes), len(self.slots)) + others))
        if left:
            parts.append('time to go not known yet' if seconds is None else f'{duration(seconds)} to go')
        self.show(f'[{", ".join(parts)}] {event}')

    def _show_processes(self) -> None:
        """Now and then show the last line of each run at work, its own progress."""
        if time.monotonic() - self._shown >= INTERVAL:
            self._shown = time.monotonic()
            for run in self._processes:
                self.show(f'{run.job.title}: {_last_line(run.job)}')


def _last_line(job: Job) -> str:
    """The last line that a run's process has printed."""
    log = job.folder / LOG
    if not log.is_file():
        return f'its folder {job.folder} is gone'
    lines = log.read_text(errors='replace').splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), 'nothing printed yet')
