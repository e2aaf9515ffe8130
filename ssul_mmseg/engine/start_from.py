"""Start from a task that another run has learned."""
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from mmseg.registry import MODELS

from ..datasets.memory import ExemplarMemory
from ..datasets.source import INDEX_FILES
from ..errors import InputError
from ..work_dir.files import write_atomically
from ..work_dir.layout import MEMORY, RESULT, WEIGHTS, task_dir
from ..work_dir.weights import fill, read_weights, save_weights
from .config_faults import config_faults
from .memory_hook import update_memory
from .processes import unwrap
from .run import Run
from .runner import task_runner
from .task_config import task_config


def copy_learned_task(run: Run, source: Path, tasks: Sequence[int] | None, resume: bool) -> Sequence[int]:
    """Copy what another run has learned before the first of some tasks.

    Weights and results of all earlier tasks are copied, and which classes each mask holds. Where this run has a memory
    of another size or selection than the other, or the other has none, exemplars are chosen anew from the earlier
    tasks' images.

    Args:
        run: the run that starts.
        source: work dir of the other run.
        tasks: the tasks to learn, ascending; None: all that the other run has not learned.
        resume: whether tasks that are in this run already are kept.

    Returns:
        The tasks to learn.

    Raises:
        InputError: the other run has not learned the task before, or this run holds that task already.
    """
    learned = [task for task in run.tasks if (task_dir(source, task) / WEIGHTS).is_file()]
    if not learned:
        raise InputError(f'there is no learned task in {source}; give --start-from the work dir of a run that has one')
    first = learned[-1] + 1 if tasks is None else tasks[0]
    if first == 0 or first - 1 not in learned:
        raise InputError(f'task {first} starts from task {first - 1}, which {source} has not learned (it holds '
                         f'{", ".join(map(str, learned))}); choose other --tasks or another --start-from')
    if first == len(run.tasks):
        raise InputError(f'{source} has learned all {first} tasks; say with --tasks which to learn again from the one '
                         'before')
    for task in range(first):
        _copy_task(run, source, task, resume)
    for path in source.glob(INDEX_FILES):
        if not (run.work_dir / path.name).exists():
            _copy_file(path, run.work_dir / path.name)  # one of other masks is noticed and made anew
    if run.memory is not None:
        _choose_memory(run, run.memory, source, first)
    return run.tasks[first:] if tasks is None else tasks


def _copy_task(run: Run, source: Path, task: int, resume: bool) -> None:
    """Copy weights and result of a task; with ``resume``, keep the same task that is there already."""
    weights = task_dir(source, task) / WEIGHTS
    if not weights.is_file():
        return
    if run.has(task, WEIGHTS):
        own, theirs = (read_weights(path, task).state_dict for path in (run.folder(task) / WEIGHTS, weights))
        # This run's method may have added some, see finish_learned_base.
        same = all(key in own and torch.equal(own[key], value) for key, value in theirs.items())
        if same and resume:
            return
        hint = ', or add --resume to go on with that run' if same else ''
        raise InputError(f'task {task} is in {run.work_dir} already; choose another --work-dir{hint}')
    read_weights(weights, task)  # a damaged file is not copied
    for name in (RESULT, WEIGHTS):
        path = task_dir(source, task) / name
        if path.is_file():
            _copy_file(path, run.folder(task) / name)


def _copy_file(path: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    with open(path, 'rb') as file:
        write_atomically(target, lambda out: shutil.copyfileobj(file, out))


def _choose_memory(run: Run, memory: ExemplarMemory, source: Path, first: int) -> None:
    """Copy the exemplars of the tasks before ``first``; choose them anew where the other run has no such memory."""
    for task in range(first):
        if run.has(task, MEMORY):
            continue
        theirs = task_dir(source, task) / MEMORY
        if theirs.is_file():
            found = ExemplarMemory.read(theirs)
            if (found.size, found.selection) == (memory.size, memory.selection):
                _copy_file(theirs, run.folder(task) / MEMORY)
                continue
        print_log(f'the exemplars of task {task} are chosen anew: {source} has no memory of {memory.size} images '
                  f'({memory.selection})', logger='current', level=logging.WARNING)
        update_memory(run, run.train_data(task_config(run.config, task), task))


def finish_learned_base(run: Run, source: Path) -> None:
    """Let the method make of task 0's images what the run that learned task 0 did not keep of them.

    Weights that the method adds and state are what they would be after a task 0 of its own: it ends with the same call.

    Args:
        run: the run, into which task 0 was copied.
        source: work dir of the run that learned it.

    Raises:
        InputError: the images of task 0 are not here, or the weights do not fit the network.
    """
    config, path = task_config(run.config, 0), run.folder(0) / WEIGHTS
    with config_faults(config):
        gathered: tuple[str, ...] = MODELS.build(config.model).gathered
    learned = read_weights(path, 0)
    names = [*learned.method_state, *learned.state_dict]
    missing = [part for part in gathered if not any(name.startswith(part) for name in names)]
    if not missing:
        return
    kind = config.model.type
    try:
        runner = task_runner(run, config, 0, tests=False)
    except InputError as error:
        raise InputError(f'{source} keeps nothing of task 0 that {kind} needs ({", ".join(missing)}), which can be '
                         f'made of its images alone, but: {error.sentence}') from error
    print_log(f'{source} keeps nothing of task 0 that {kind} needs ({", ".join(missing)}): it is made of the images '
              'of task 0 now', logger='current', level=logging.WARNING)
    model = unwrap(runner.model)
    added = {key: value for key, value in model.state_dict().items() if key.startswith(gathered)}
    fill(model, {**added, **learned.state_dict}, path, run.config.filename)
    state = model.train().finish_task(runner.train_dataloader)
    if is_main_process():
        save_weights(path, model.state_dict(), learned.classes, learned.palette, 0, learned.origin,
                     {**learned.method_state, **state})
    barrier()
