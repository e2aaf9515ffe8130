"""Every method's iteration of a task that is not the first: seconds and peak memory."""
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS
from torch import Tensor

from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.methods.ssul import SSUL
from ssul_mmseg.models.segmentors import IncrementalSegmentor, OldTask
from ssul_mmseg.options import read_config
from ssul_mmseg.scenario import BACKGROUND, UNKNOWN, Scenario

from .measure import Work, peak_memory, say, time_in_turns
from .networks import build_frozen, narrow, random_batch, samples_of, set_scores
from .settings import SURVIVORS, Options
from .targets import target
from .task_data import NoiseImages, loader_of

YARDSTICK = 'fine_tuning'
"""The method that the others are compared with: plain training of the whole network."""
WRAPPERS = {'none': 'OptimWrapper', 'bf16': 'BFloat16OptimWrapper', 'fp16': 'AmpOptimWrapper'}
MOST_MEMORY = 1.5
"""What a method that trains the trunk may take, in units of fine-tuning's peak."""


class Iteration:
    """An iteration of a task as a run makes it: forward pass, loss, backward pass, ``before_step``, update.

    Args:
        options: of the run.
        cfg: the task's config, without data.
        model: the network that learns, frozen, with its weights.
        labels: uint8 (B, H, W), of the run's batch.
    """

    def __init__(self, options: Options, cfg: Config, model: IncrementalSegmentor, labels: Tensor) -> None:
        self.model = model.train()
        self.inputs, self.labels = random_batch(options).inputs, labels
        wrapper = dict(cfg.optim_wrapper, type=WRAPPERS[options.amp])
        with _quiet():
            self.wrapper = build_optim_wrapper(model, wrapper)
        self.wrapper.optimizer.register_step_pre_hook(lambda *_: model.before_step())
        names = ['background', *(f'class {number}' for number in range(1, model.decode_head.num_seen + 1))]
        self.loader = loader_of(NoiseImages(self.inputs, labels, names), len(labels))
        model.before_training(self.loader)

    def __call__(self) -> None:
        """Make one update."""
        # What a kept image or map would save belongs to the benchmark of a task: here every image passes the network.
        data = dict(inputs=list(self.inputs), data_samples=samples_of(self.labels))
        self.model.train_step(data, self.wrapper)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide mmengine's three lines per tensor where layers have learning rates of their own."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def method_configs(options: Options) -> dict[str, Path]:
    """The config of every method at the scale of the run, by the name of its folder, the yardstick's first.

    Raises:
        InputError: one is missing.
    """
    # Every method has a config for VOC 15-1; a folder without one shows something else.
    names = sorted(path.parent.name for path in options.configs.glob('*/voc_15-1.py'))
    names = [YARDSTICK, *(name for name in names if name != YARDSTICK)]
    found = {name: options.configs / name / f'{options.scale.config}.py' for name in names}
    for path in found.values():
        if not path.is_file():
            raise InputError(f'there is no config {path}; run the benchmark from a checkout of the project')
    return found


def is_solved(path: Path) -> bool:
    """Whether the method of a config solves its tasks, so that there is no iteration to measure."""
    return bool(MODELS.get(read_config(str(path)).model.type).solves)


def read_task(options: Options, path: Path, task: int) -> Config:
    """The config of a task of a method, for the run's images and for one process."""
    cfg = read_config(str(path))
    cfg.work_dir = 'work_dirs/benchmark'  # task_config wants one; nothing is written
    cfg = task_config(cfg, task)
    cfg.model.data_preprocessor = dict(type='SegDataPreProcessor', size=(options.scale.crop, ) * 2)
    narrow(cfg.model, options)
    return cfg


def start_method(options: Options, path: Path) -> Iteration:
    """The iteration of a method's task 1, after one of task 0; of joint training's only task, which is task 0."""
    last = len(Scenario(**read_config(str(path)).scenario).tasks) - 1
    first = Iteration(options, *_network(options, path, 0))
    if last == 0:
        return first
    first()
    old = first.model
    if isinstance(old, SSUL) and old.tau is not None:
        # SSUL's pseudo-labels cost what an image's confident old classes cost.
        with torch.no_grad():
            set_scores(old.eval(), old.trunk(first.inputs), SURVIVORS)
    state = old.finish_task(first.loader)
    cfg, model, labels = _network(options, path, 1)
    model.start_task(OldTask(old.state_dict(), state))
    return Iteration(options, cfg, model, labels)


def _network(options: Options, path: Path, task: int) -> tuple[Config, IncrementalSegmentor, Tensor]:
    """A task's config, its network with random weights, and labels of the run's batch."""
    cfg = read_task(options, path, task)
    model = build_frozen(options, cfg.model)
    head, batch = model.decode_head, random_batch(options)
    if task > 0:
        labels = batch.labels.masked_fill(batch.new, head.num_old + 1)
    else:
        # Squares of all classes: a method may need something of each.
        squares = (torch.arange(64, device=batch.labels.device) % (1 + head.num_seen)).view(1, 1, 8, 8)
        squares = torch.nn.functional.interpolate(squares.float(), batch.labels.shape[1:])[0].to(batch.labels.dtype)
        labels = squares.expand_as(batch.labels).clone()
    return cfg, model, labels if head.has_unknown else labels.masked_fill(labels == UNKNOWN, BACKGROUND)


def build_iteration(options: Options, path: Path) -> Work:
    """An iteration of a method that is not its first: momentum, and what else an update leaves, is there."""
    iteration = start_method(options, path)
    iteration()
    return iteration


def measure_methods(options: Options) -> dict:
    """Seconds and peak memory of an iteration of every method that trains its tasks."""
    configs = method_configs(options)
    solved = [name for name, path in configs.items() if is_solved(path)]
    trained = {name: path for name, path in configs.items() if name not in solved}
    memory = {}
    for name, path in trained.items():
        memory[name] = peak_memory(build_iteration, options, path, device=options.device)
        say(f'methods: memory of {name} measured')
    variants = {name: start_method(options, path) for name, path in trained.items()}
    seconds = time_in_turns(variants, options, 'methods')
    trunk_learns = [name for name, iteration in variants.items() if not iteration.model.trunk_frozen]
    ratios = {name: memory_ratio(memory, name) for name in trained}
    return {
        'config': options.scale.config,
        'seconds': seconds,
        'peak_memory_bytes': memory,
        'seconds_vs_fine_tuning': {
            name: times['median'] / seconds[YARDSTICK]['median'] for name, times in seconds.items()},
        'peak_memory_vs_fine_tuning': ratios,
        'trunk_learns': trunk_learns,
        'solved': solved,
        'targets': [target(f"{name}: peak memory / fine-tuning's", ratios[name], most=MOST_MEMORY)
                    for name in trunk_learns if name != YARDSTICK],
    }


def memory_ratio(memory: Mapping[str, int | None], name: str) -> float | None:
    """A method's peak in units of the yardstick's; None where the system did not say."""
    own, other = memory[name], memory[YARDSTICK]
    return own / other if own is not None and other else None
