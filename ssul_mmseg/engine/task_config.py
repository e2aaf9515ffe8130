"""The config of one task, made from a scenario's: the only code that edits a config."""
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, is_distributed
from mmseg.registry import DATASETS, METRICS

from ..datasets.memory import ExemplarMemory
from ..errors import InputError
from ..evaluation.metrics import IncrementalIoUMetric
from ..scenario import Scenario
from ..work_dir.layout import MEMORY, RESULT, task_dir
from ..work_dir.results import read_entry
from .feature_cache import check_cache
from .runner import config_faults_told


def scenario_args(cfg: Config) -> dict:
    """The arguments of the config's :class:`Scenario` (its ``scenario`` without the setting)."""
    return {key: value for key, value in cfg.scenario.items() if key != 'setting'}


@config_faults_told
def scenario_of(cfg: Config) -> Scenario:
    """The config's scenario."""
    return Scenario(**scenario_args(cfg))


def setting_of(cfg: Config) -> str:
    """The config's setting: 'overlapped', 'disjoint' or 'sequential'."""
    return cfg.scenario.get('setting', 'overlapped')


def memory_args(cfg: Config) -> dict:
    """The arguments of the config's :class:`ExemplarMemory`, {} where it has none.

    Raises:
        InputError: one of them is wrong, or ``memory.size`` is not set.
    """
    args = {key: value for key, value in (cfg.get('memory') or {}).items() if key != 'labels'}
    if cfg.get('memory') and 'size' not in args:
        raise InputError('memory.size is not set; set it to a number of images, or start from a config that ends in _m')
    if args:
        ExemplarMemory(**args)
    return args


@config_faults_told
def task_config(cfg: Config, task: int) -> Config:
    """Make the config of one task.

    Args:
        cfg: a scenario's config with ``work_dir``.
        task: index of the task.

    Returns:
        A config of which mmengine's ``Runner`` trains and tests the task.

    Raises:
        InputError: a value of the config does not fit the others, the data, the number of processes or what is already
            in ``work_dir``.
    """
    scenario, work_dir = Scenario(**scenario_args(cfg)), cfg.work_dir
    cfg = network_config(cfg, task)
    cfg.experiment_name = f'task_{task}'
    _set_data(cfg, work_dir, task)
    _set_batch_size(cfg, scenario)
    _set_feature_cache(cfg, scenario, task)
    classes = metainfo_of(cfg)['classes']
    check_classes(work_dir, scenario, classes, cfg.filename)
    _set_evaluator(cfg, task, learned_iou(work_dir, scenario, task, classes))
    cfg.custom_hooks = [
        *cfg.get('custom_hooks', []),
        dict(type='IncrementalTaskHook', scenario=scenario_args(cfg), task=task, work_dir=work_dir,
             seed=cfg.randomness.seed, memory=memory_args(cfg) or None),
        dict(type='CheckpointResumeHook', **cfg.get('checkpoint', {})),
        dict(type='ProgressHook', task=task, num_tasks=len(scenario.tasks),
             classes=[classes[label] for label in scenario.tasks[task]]),
    ]
    if is_distributed() and not torch.cuda.is_available():
        _replace_values(cfg.model, 'type', 'SyncBN', 'GlooSyncBN')
        # mmengine's own wrapping would ask for a GPU.
        cfg.model_wrapper_cfg = {
            'type': 'MMDistributedDataParallel', 'broadcast_buffers': False,
            'find_unused_parameters': cfg.get('find_unused_parameters', False),
            **(cfg.get('model_wrapper_cfg') or {}), 'device_ids': None}
    return cfg


@config_faults_told
def network_config(cfg: Config, task: int) -> Config:
    """Make that part of a task's config that needs no data: its values from task 1 on, its network and its folder.

    Args:
        cfg: a scenario's config with ``work_dir``.
        task: index of the task.

    Raises:
        InputError: a key is set that the chain of tasks decides, or the scenario has no such task.
    """
    cfg = copy.deepcopy(cfg)
    if task > 0:
        cfg.merge_from_dict(cfg.get('incremental', {}))
    for key in ('load_from', 'resume'):
        if cfg.get(key):
            raise InputError(f'{key} is set, but every task starts from the weights of the task before; remove it, and '
                             'set model.backbone.init_cfg for pretrained weights, or add --resume to go on with a run')
    scenario = Scenario(**scenario_args(cfg))
    cfg.work_dir = str(task_dir(cfg.work_dir, task))
    cfg.model.decode_head.classes_per_task = scenario.classes_per_task(task)
    if task > 0 and 'init_cfg' in cfg.model.backbone:
        cfg.model.backbone.init_cfg = None  # pretrained weights are for task 0 alone
    return cfg


def _set_data(cfg: Config, work_dir: str, task: int) -> None:
    """What the data sets, transforms and samplers need to know of the task."""
    train, test = cfg.train_dataloader, cfg.test_dataloader
    if 'data_root' in cfg:
        for loader in (train, test):
            loader.dataset.dataset.setdefault('data_root', cfg.data_root)
    for transform in train.dataset.pipeline:
        if transform.type == 'LabelAugmentation':
            transform.saliency = cfg.saliency
        elif transform.type == 'RandomCrop':
            # Images smaller than a crop are filled up to it.
            size, preprocessor = transform.crop_size, cfg.model.data_preprocessor
            if preprocessor.get('size_divisor') is None:
                preprocessor.setdefault('size', (size, size) if isinstance(size, int) else size)
    common, seed = dict(scenario=scenario_args(cfg), task=task, index_cache=str(Path(work_dir))), cfg.randomness.seed
    train.dataset.update(common, setting=setting_of(cfg), seed=seed,
                         memory_labels=(cfg.get('memory') or {}).get('labels', 'stored'),
                         memory_args=memory_args(cfg) or None)
    if memory_args(cfg) and task > 0:
        train.dataset.memory = str(task_dir(work_dir, task - 1) / MEMORY)
    test.dataset.update(common, test_mode=True)
    train.batch_sampler.update(seed=seed, task=task)
    for loader in (train, test):
        loader.sampler = dict(type='DefaultSampler', shuffle=False)
        # Workers that outlive an epoch need to exist.
        loader.persistent_workers = loader.num_workers > 0 and loader.get('persistent_workers', False)


def _set_batch_size(cfg: Config, scenario: Scenario) -> None:
    """Split the batch among the processes."""
    train = cfg.train_dataloader
    if train.batch_size % get_world_size():
        raise InputError(f'train_dataloader.batch_size is {train.batch_size}, shared by all processes, and cannot be '
                         f'split among {get_world_size()} of them; choose a multiple')
    if memory_args(cfg) and len(scenario.tasks) > 1 and train.batch_size < 2:
        raise InputError('train_dataloader.batch_size is 1, but a batch with memory holds an exemplar and an image of '
                         'the task; set it to 2 or more')
    train.batch_size //= get_world_size()


def _set_feature_cache(cfg: Config, scenario: Scenario, task: int) -> None:
    """Loops that keep features: for training once the trunk is frozen, for test images wherever they come again."""
    cache = cfg.get('feature_cache')
    if not cache:
        return
    check_cache(**cache)
    if task > 0:
        cfg.train_cfg.update(type='FeatureCacheTrainLoop', **cache)
        cfg.train_cfg.pop('by_epoch', None)
    if len(scenario.tasks) > 1:
        kept = {key: value for key, value in cache.items() if key != 'views'}
        cfg.test_cfg = dict(cfg.get('test_cfg') or {}, type='FeatureCacheTestLoop', **kept)


def _set_evaluator(cfg: Config, task: int, learned: dict[str, float | None]) -> None:
    """The metric, with the IoU of every old class when it was learned."""
    evaluator = cfg.get('test_evaluator') or dict(type='IncrementalIoUMetric')
    if not issubclass(METRICS.get(evaluator['type']) or object, IncrementalIoUMetric):
        raise InputError(f'test_evaluator.type is {evaluator["type"]}, but the results are those of '
                         'IncrementalIoUMetric; remove test_evaluator, or set a subclass of it')
    cfg.test_evaluator = dict(evaluator, scenario=scenario_args(cfg), task=task, learned_iou=learned)


def _replace_values(config: Any, key: str, old: str, new: str) -> None:
    """Replace a value wherever a key has it in a nested config."""
    children = config.values() if isinstance(config, dict) else config if isinstance(config, list | tuple) else ()
    if isinstance(config, dict) and config.get(key) == old:
        config[key] = new
    for child in children:
        _replace_values(child, key, old, new)


def metainfo_of(cfg: Config) -> dict:
    """Class names and colours by label, background first, from the test data of a task's config."""
    return DATASETS.build(cfg.test_dataloader.dataset).metainfo


def check_classes(work_dir: str, scenario: Scenario, classes: Sequence[str], config: str | None) -> None:
    """Refuse a work dir that was trained on other classes, or in another order, than the config has.

    Args:
        work_dir: of the scenario.
        scenario: the config's scenario.
        classes: the config's class names by label, background first.
        config: the config's file.
    """
    for task, labels in enumerate(scenario.tasks):
        path = task_dir(work_dir, task) / RESULT
        try:
            trained = read_entry(path, task)['classes'] if path.is_file() else None
        except InputError:
            continue  # a damaged file is told where its values are needed
        here = [classes[label] for label in labels]
        if trained not in (None, here):
            raise InputError(f'task {task} in {work_dir} was trained on the classes {", ".join(trained)}, but the '
                             f'config {config} has {", ".join(here)}; give the config that was trained, or choose '
                             'another work dir')


def learned_iou(work_dir: str, scenario: Scenario, task: int, classes: Sequence[str]) -> dict[str, float | None]:
    """IoU of every old class when it was learned, from the results of the earlier tasks, in percent."""
    iou = {}
    for earlier in range(task):
        path = task_dir(work_dir, earlier) / RESULT
        if path.is_file():
            known = classes[:scenario.tasks[earlier].stop]
            entry = read_entry(path, earlier, known)
            iou.update({classes[label]: entry['IoU'][classes[label]] for label in scenario.tasks[earlier]})
    return iou
