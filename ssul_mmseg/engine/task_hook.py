"""What happens around the training of a task: old weights in, freeze checked, memory and weights out."""
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import nn

from ..datasets.memory import ExemplarMemory
from ..datasets.task_dataset import TaskDataset
from ..errors import InputError
from ..scenario import Scenario
from ..work_dir.layout import MEMORY, WEIGHTS, task_dir
from ..work_dir.weights import load_weights, not_finite, save_weights, tensor_digest
from .processes import bare

ORIGIN = 'origin'
"""Under this name the hooks of a task find in the message hub what it is learned from."""


@HOOKS.register_module()
class IncrementalTaskHook(Hook):
    """Chains a task to the one before; knows no method by name.

    Before training it loads the old task's weights and lets the model start from them (``start_task``); after, it
    checks that no frozen tensor moved, updates the exemplar memory and saves the weights.

    Args:
        scenario: arguments of :class:`~ssul_mmseg.tasks.Scenario`.
        task: index of the task.
        work_dir: of the scenario; each task has a folder below it.
        seed: seed of the run.
        memory: ``dict(size=, selection=)`` of an :class:`~ssul_mmseg.memory.ExemplarMemory`, or None.

    Raises:
        InputError: the memory's arguments are wrong.
    """

    priority = 'HIGH'

    def __init__(self, scenario: dict, task: int, work_dir: str, seed: int, memory: dict | None = None) -> None:
        self.scenario = Scenario(**scenario)
        self.task = task
        self.work_dir = work_dir
        self.seed = seed
        self.memory = ExemplarMemory(**memory) if memory else None
        self._frozen: dict[str, str] | None = None

    def before_run(self, runner: Runner) -> None:
        """Start from the old task's weights."""
        if self._frozen is not None:
            return
        old_digest = ''
        if self.task > 0:
            names = self._class_names(runner, self.scenario.old(self.task))
            path = task_dir(self.work_dir, self.task - 1) / WEIGHTS
            weights, old_digest = load_weights(path, names, self.task - 1)
            bare(runner.model).start_task(weights)
        runner.message_hub.update_info(ORIGIN, origin_of(runner.train_dataloader.dataset, old_digest))

    def before_train(self, runner: Runner) -> None:
        """Remember what must not move."""
        self._frozen = frozen_digests(bare(runner.model))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Make the iteration's randomness a function of seed, task, iteration, and of rank for what no batch shares."""
        torch.manual_seed(_drawn_seed(self.seed, self.task, runner.iter, get_rank()))
        sampler = runner.train_dataloader.batch_sampler
        batch = sampler.batch(*divmod(runner.iter, len(sampler)))
        bare(runner.model).decode_head.begin_batch(
            _drawn_seed(self.seed, self.task, runner.iter), sampler.own_places(batch), len(batch))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Stop at a loss that is no number; the weights saved last are from before it."""
        loss = torch.as_tensor(outputs['loss']).item()
        if not math.isfinite(loss):
            dataset, sampler = runner.train_dataloader.dataset, runner.train_dataloader.batch_sampler
            keys = sampler.batch(*divmod(runner.iter, len(sampler)))
            images = ', '.join(dataset.image_id(dataset.image_at(position)) for position, _ in keys)
            raise InputError(f'the loss of task {self.task} is {loss} at iteration {runner.iter} on the images '
                             f'{images}; what was saved before is whole: correct these images or their masks and run '
                             'again with --resume, which begins this task anew with them, or start in another '
                             '--work-dir with a lower optim_wrapper.optimizer.lr')

    def after_train(self, runner: Runner) -> None:
        """Check the freeze, then write memory and weights; the weights come last, as they mark the task as learned."""
        model = bare(runner.model)
        now = frozen_digests(model)
        moved = [name for name, was in self._frozen.items() if now[name] != was]
        if moved:
            raise RuntimeError(f'{len(moved)} frozen tensors moved in task {self.task}, the first is {moved[0]}')
        refuse_not_finite({'state_dict': model.state_dict()}, runner, runner.iter)
        if not is_main_process():
            return
        if self.memory is not None:
            update_memory(self.memory, runner.train_dataloader.dataset, self.work_dir, self.seed)
        seen = self.scenario.seen(self.task)
        palette = runner.train_dataloader.dataset.metainfo['palette'][:seen.stop]
        save_weights(task_dir(self.work_dir, self.task) / WEIGHTS, model.state_dict(),
                     self._class_names(runner, seen), palette, self.task, runner.message_hub.get_info(ORIGIN))

    @staticmethod
    def _class_names(runner: Runner, labels: range) -> list[str]:
        """Names of the classes with these labels."""
        names = runner.train_dataloader.dataset.metainfo['classes']
        return [names[label] for label in labels]


def origin_of(dataset: TaskDataset, old_digest: str) -> dict[str, str]:
    """What a task is learned from: checksums of the old task's weights and of the images with what they show."""
    return {'old weights': old_digest, 'images': dataset.digest()}


def update_memory(memory: ExemplarMemory, dataset: TaskDataset, work_dir: str | Path, seed: int) -> None:
    """Choose exemplars from those of the task before and a task's images, and write the manifest.

    Args:
        memory: the empty memory, with its size and selection.
        dataset: training set of the task.
        work_dir: of the scenario.
        seed: seed of the run.
    """
    task = dataset.task
    if task > 0:
        old = ExemplarMemory.read(task_dir(work_dir, task - 1) / MEMORY)
        memory = replace(memory, exemplars=old.exemplars, images_seen=old.images_seen)
    memory = memory.update(dataset.images_by_class(), task, seed)
    shortage = memory.shortage(dataset.scenario.seen(task))
    if shortage:
        print_log(shortage, logger='current', level=logging.WARNING)
    memory.write(task_dir(work_dir, task) / MEMORY, dataset.metainfo['classes'])


def refuse_not_finite(state: dict, runner: Runner, iterations: int) -> None:
    """Raise an :class:`InputError` before a state with NaN or infinite values overwrites a good one."""
    name = not_finite(state)
    if name is not None:
        raise InputError(f'{name} holds a number that is NaN or infinite after {iterations} iterations of '
                         f'{Path(runner.work_dir).name}; what was saved before is whole: start in another --work-dir '
                         'with a lower optim_wrapper.optimizer.lr')


def _drawn_seed(*entropy: int) -> int:
    """A seed of PyTorch's, a function of non-negative integers."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def frozen_digests(model: nn.Module) -> dict[str, str]:
    """Checksums of all frozen tensors, buffers included, by name."""
    return {
        f'{type(module).__name__}_{i}.{name}': tensor_digest(tensor)
        for i, module in enumerate(model.frozen_modules())
        for name, tensor in module.state_dict().items()
    }
