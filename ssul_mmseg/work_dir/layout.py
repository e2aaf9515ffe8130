"""The files of a work dir."""
import re
from pathlib import Path

RUN = 'run.json'
"""The config of the run."""
RESULTS = 'results.json'
TABLE = 'results.md'
# The files of a task, in its folder.
WEIGHTS = 'weights.pth'
MEMORY = 'memory.json'
RESULT = 'result.json'
CHECKPOINT = 'checkpoint.pth'
PREVIOUS = 'checkpoint_previous.pth'


def task_dir(work_dir: str | Path, task: int) -> Path:
    """Where a task's files lie."""
    return Path(work_dir) / f'task_{task}'


def task_dirs(work_dir: str | Path) -> dict[int, Path]:
    """The folders of tasks in a work dir; a copy such as task_0_backup does not count.

    Returns:
        path by task, ascending.
    """
    found = ((re.fullmatch(r'task_(0|[1-9]\d{0,5})', path.name), path) for path in Path(work_dir).glob('task_*'))
    return dict(sorted((int(match[1]), path) for match, path in found if match))
