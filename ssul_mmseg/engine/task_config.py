"""Make the config of one task from a scenario's: the only code that edits a config; it reads no data and no result."""
import copy
import inspect
from itertools import product
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, is_distributed
from mmseg.registry import METRICS, MODELS, TASK_UTILS

from ..datasets.memory import ExemplarMemory
from ..errors import InputError
from ..evaluation.metrics import IncrementalIoUMetric
from ..scenario import Scenario
from ..work_dir.layout import task_dir
from .config_faults import config_faults
from .feature_cache import check_cache
from .visualizer import set_visualizer

HOOKS = ('SeedHook', 'FreezeHook', 'FiniteLossHook', 'MemoryHook', 'WeightsHook')
"""Training hooks without arguments; each has one duty."""

SOLVERS = ('Newton', )
OF_OPTIMIZER = ('optimizer', 'constructor', 'paramwise_cfg', 'clip_grad')
"""Keys of ``optim_wrapper`` that mean nothing where a task is solved; the others choose its precision."""
TRAINED = 'sgd'
"""The type of ``incremental.solver`` that is none: the task is trained by the config's optimizer."""


TTA_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Scales of test-time augmentation where the config has no ``tta_pipeline``: mmseg's, each also flipped."""


def memory_of(cfg: Config) -> ExemplarMemory | None:
    """The config's empty memory, or None where it has none.

    Raises:
        InputError: one of its values is wrong, or ``memory.size`` is not set.
    """
    memory = cfg.get('memory')
    if not memory:
        return None
    if 'size' not in memory:
        raise InputError('memory.size is not set; set it to a number of images, or start from a config that ends in _m')
    return ExemplarMemory(**{key: value for key, value in memory.items() if key != 'labels'})


def task_config(cfg: Config, task: int, tta: bool = False) -> Config:
    """Make the config of one task.

    Args:
        cfg: a scenario's config with ``work_dir``.
        task: index of the task.
        tta: whether test images are loaded in several views, for test-time augmentation.

    Returns:
        A config of which :func:`~ssul_mmseg.engine.runner.task_runner` makes the runner of the task.

    Raises:
        InputError: a value of the config does not fit the others, or the number of processes.
    """
    with config_faults(cfg):
        scenario, memory, work_dir = Scenario(**cfg.scenario), memory_of(cfg), cfg.work_dir
        cfg = network_config(cfg, task)
        if tta:
            _set_tta(cfg)
        _set_data(cfg, work_dir, task)
        _set_batch_size(cfg, scenario, memory)
        _set_loops(cfg, scenario, task)
        _set_evaluator(cfg, task)
        cfg.custom_hooks = [
            *(cfg.get('custom_hooks') or []),
            *(dict(type=name) for name in HOOKS),
            dict(type='CheckpointResumeHook', **cfg.get('checkpoint', {})),
            *([] if cfg.get('quiet') else [dict(type='ProgressHook')]),
        ]
        set_visualizer(cfg, work_dir)
        _set_processes(cfg)
        return cfg


def network_config(cfg: Config, task: int) -> Config:
    """Make that part of a task's config that its network needs: its values from task 1 on, and its folder.

    Args:
        cfg: a scenario's config with ``work_dir``.
        task: index of the task.

    Raises:
        InputError: a key is set that the chain of tasks decides, or the scenario has no such task.
    """
    cfg = copy.deepcopy(cfg)
    if task > 0:
        cfg.merge_from_dict(cfg.get('incremental') or {})
    for key in ('load_from', 'resume'):
        if cfg.get(key):
            raise InputError(f'{key} is set, but every task starts from the weights of the task before; remove it, and '
                             'set model.backbone.init_cfg for pretrained weights, or add --resume to go on with a run')
    classes_per_task = Scenario(**cfg.scenario).classes_per_task(task)
    cfg.work_dir = str(task_dir(cfg.work_dir, task))
    auxiliary = cfg.model.get('auxiliary_head') or []
    for head in (cfg.model.decode_head, *(auxiliary if isinstance(auxiliary, list) else [auxiliary])):
        head.classes_per_task = classes_per_task
    if task > 0 and 'init_cfg' in cfg.model.backbone:
        cfg.model.backbone.init_cfg = None  # pretrained weights are for task 0 alone
    return cfg


def bare_network_config(cfg: Config, task: int) -> Config:
    """:func:`network_config` of a network that gets its weights at once: timm's fetch none as they are built."""
    cfg = network_config(cfg, task)
    if cfg.model.backbone.get('pretrained') is True:
        cfg.model.backbone.pretrained = False
    return cfg


def _set_tta(cfg: Config) -> None:
    """Load test images in several views: those of ``tta_pipeline``, or six scales of what the test pipeline packs."""
    dataset = cfg.test_dataloader.dataset
    if not cfg.get('tta_pipeline'):
        *load, pack = dataset.pipeline
        choices = product(TTA_SCALES, (False, True))
        views = [dict(type='ScaleAndFlip', scale=scale, flip=flip) for scale, flip in choices]
        cfg.tta_pipeline = [*load, dict(type='TestTimeAug', transforms=[views, [pack]])]
    dataset.pipeline = cfg.tta_pipeline
    cfg.feature_cache = None  # features are those of one view


def _set_data(cfg: Config, work_dir: str, task: int) -> None:
    """Give the data sets, transforms and samplers what they need to know of the task."""
    train, test, seed = cfg.train_dataloader, cfg.test_dataloader, cfg.randomness.seed
    if 'data_root' in cfg:
        for loader in (train, test):
            loader.dataset.dataset.setdefault('data_root', cfg.data_root)
    for loader in (train, test):
        for transform in loader.dataset.pipeline:
            _set_transform(cfg, transform)
    common = dict(scenario=dict(cfg.scenario), task=task, index_cache=str(work_dir), quiet=bool(cfg.get('quiet')))
    memory = dict(cfg.get('memory') or {})
    if memory:
        train.dataset.exemplar_labels = memory.pop('labels', 'stored')
        train.dataset.memory_args = memory
    train.dataset.update(common, seed=seed)
    test.dataset.update(common, test_mode=True)
    train.batch_sampler.update(seed=seed, task=task)
    for loader in (train, test):
        loader.sampler = dict(type='DefaultSampler', shuffle=False)
        loader.setdefault('num_workers', 0)  # PyTorch's default, and a run does not record it
        # PyTorch refuses persistent workers where there are none.
        loader.persistent_workers = loader.num_workers > 0 and loader.get('persistent_workers', False)
    # Training has workers of its own for the whole task; those of a pass before it end with the pass.
    train.persistent_workers = False


def _set_transform(cfg: Config, transform: dict) -> None:
    """Give a transform its value from a key of the config: ``saliency``, ``crop_size`` or ``test_size``."""
    if transform['type'] == 'LabelAugmentation':
        transform['saliency'] = cfg.saliency
    elif transform['type'] == 'RandomCrop':
        size = cfg.crop_size
        sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
        if len(sides) != 2 or any(type(side) is not int or side < 1 for side in sides):
            raise InputError(f'crop_size is {size!r}; it is a number of pixels, at least 1, or (height, width)')
        transform['crop_size'] = sides
        # Images smaller than the crop are padded to its size.
        if cfg.model.data_preprocessor.get('size_divisor') is None:
            cfg.model.data_preprocessor.setdefault('size', transform['crop_size'])
    elif transform['type'] == 'ShortSideCenterCrop':
        if 'test_size' not in cfg:
            raise InputError(f'the config {cfg.filename} crops test images, but has no test_size; set it to the '
                             'side of the square in pixels, or to None for whole images')
        transform['size'] = cfg.test_size


def _set_batch_size(cfg: Config, scenario: Scenario, memory: ExemplarMemory | None) -> None:
    """Split the batch among the processes."""
    train = cfg.train_dataloader
    if train.batch_size % get_world_size():
        raise InputError(f'train_dataloader.batch_size is {train.batch_size}, shared by all processes, and cannot be '
                         f'split among {get_world_size()} of them; choose a multiple')
    if memory and len(scenario.tasks) > 1 and train.batch_size < 2:
        raise InputError('train_dataloader.batch_size is 1, but a batch with memory holds an exemplar and an image of '
                         'the task; set it to 2 or more')
    train.batch_size //= get_world_size()


def _set_loops(cfg: Config, scenario: Scenario, task: int) -> None:
    """Set the loops; both may keep features, the test loop only if later tasks or other runs test the same images."""
    cache = dict(cfg.get('feature_cache') or {})
    check_cache(**cache)
    shared = {'test_folder': folder} if (folder := cache.pop('test_folder', None)) else {}
    kept = {key: value for key, value in cache.items() if key != 'views'}
    solver = _solver(cfg, task)
    if solver or (task > 0 and getattr(MODELS.get(cfg.model.type), 'solves', False)):
        cfg.train_cfg = dict(type='TaskSolveLoop', solver=solver, feature_cache=kept if cache else None)
        wrapper = {key: value for key, value in cfg.optim_wrapper.items() if key not in OF_OPTIMIZER}
        cfg.optim_wrapper = dict(wrapper, optimizer=dict(type='NoOptimizer'))
        cfg.param_scheduler = None
    else:
        cfg.train_cfg.update(type='TaskTrainLoop', feature_cache=cache or None)
        cfg.train_cfg.pop('by_epoch', None)
    again = cfg.get('feature_cache') is not None and (len(scenario.tasks) > 1 or shared)
    cfg.test_cfg = dict(cfg.get('test_cfg') or {}, type='TaskTestLoop',
                        feature_cache={**kept, **shared} if again else None)


def _solver(cfg: Config, task: int) -> dict | None:
    """The task's solver, or None where it is trained.

    Raises:
        InputError: the solver is unknown, or one of its values is wrong, or task 0 has one.
    """
    solver = cfg.get('solver')
    if solver is None:
        return None
    kind = solver.get('type') if isinstance(solver, dict) else solver
    if kind == TRAINED:
        return None
    if task == 0:
        raise InputError('solver is set for task 0 too, which is no convex problem; set incremental.solver')
    if kind not in SOLVERS or kind is solver:
        raise InputError(f'incremental.solver.type is {kind!r}; choose one of {TRAINED}, {", ".join(SOLVERS)}, as in '
                         f"incremental = dict(solver=dict(type='{SOLVERS[0]}'))")
    known = inspect.signature(TASK_UTILS.get(solver['type'])).parameters
    for key in solver:
        if key != 'type' and key not in known:
            raise InputError(f'incremental.solver has no {key!r}; known: {", ".join(known)}')
    TASK_UTILS.build(solver)  # checks its values
    return dict(solver)


def _set_evaluator(cfg: Config, task: int) -> None:
    """Set the metric."""
    evaluator = cfg.get('test_evaluator') or dict(type='IncrementalIoUMetric')
    if not issubclass(METRICS.get(evaluator['type']) or object, IncrementalIoUMetric):
        raise InputError(f'test_evaluator.type is {evaluator["type"]}, but the results are those of '
                         'IncrementalIoUMetric; remove test_evaluator, or set a subclass of it')
    cfg.test_evaluator = dict(evaluator, scenario=dict(cfg.scenario), task=task)


def _set_processes(cfg: Config) -> None:
    """For several processes on CPUs, set a normalisation and a wrapper that need no GPU."""
    if not is_distributed() or torch.cuda.is_available():
        return
    _replace_values(cfg.model, 'type', 'SyncBN', 'GlooSyncBN')
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel', 'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
        **(cfg.get('model_wrapper_cfg') or {}), 'device_ids': None}


def _replace_values(config: Any, key: str, old: str, new: str) -> None:
    """Replace a value wherever a key has it in a nested config."""
    if isinstance(config, dict):
        if config.get(key) == old:
            config[key] = new
        config = list(config.values())
    for child in config if isinstance(config, list | tuple) else ():
        _replace_values(child, key, old, new)
