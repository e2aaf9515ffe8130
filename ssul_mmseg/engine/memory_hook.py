"""Choose the exemplar memory anew at the end of a task."""
import logging
from dataclasses import replace

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmseg.registry import HOOKS

from ..datasets.memory import ExemplarMemory
from ..datasets.task_dataset import TaskDataset
from ..work_dir.layout import MEMORY
from .run import Run
from .runner import TaskRunner


@HOOKS.register_module()
class MemoryHook(Hook):
    """Writes the manifest of a task, where the run has a memory."""

    priority = 'NORMAL'

    def after_train(self, runner: TaskRunner) -> None:
        """Choose the exemplars before the weights are saved, because saved weights mark a task as learned."""
        if is_main_process():
            update_memory(runner.scenario_run, runner.train_dataloader.dataset)


def update_memory(run: Run, dataset: TaskDataset) -> None:
    """Choose exemplars from the old exemplars and a task's images, and write the manifest.

    Args:
        run: the run; if it has no memory, nothing happens.
        dataset: training set of the task.
    """
    if run.memory is None:
        return
    task, memory = dataset.task, run.memory
    if task > 0:
        old = ExemplarMemory.read(run.folder(task - 1) / MEMORY)
        memory = replace(memory, exemplars=old.exemplars, images_seen=old.images_seen)
    memory = memory.update(dataset.images_by_class(), task, run.seed)
    shortage = memory.shortage(dataset.scenario.seen(task))
    if shortage:
        print_log(shortage, logger='current', level=logging.WARNING)
    memory.write(run.folder(task) / MEMORY, dataset.metainfo['classes'])
