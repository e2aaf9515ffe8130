"""The files of a work dir."""
from pathlib import Path

RUN = 'run.json'
"""The config of the run."""
RESULTS = 'results.json'
TABLE = 'results.md'
# Of each task, in its folder.
WEIGHTS = 'weights.pth'
MEMORY = 'memory.json'
RESULT = 'result.json'
CHECKPOINT = 'checkpoint.pth'
PREVIOUS = 'checkpoint_previous.pth'


def task_dir(work_dir: str | Path, task: int) -> Path:
    """Where a task's files lie."""
    return Path(work_dir) / f'task_{task}'
