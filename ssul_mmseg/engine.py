"""The loop over the tasks of a scenario: one mmengine ``Runner`` per task."""
import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_world_size, is_distributed, is_main_process
from mmseg.registry import DATASETS, METRICS, MODELS
from torch import nn

from .errors import InputError, machine_faults_told
from .features import check_cache
from .files import remove_leftovers, write_json, write_text
from .hooks import MEMORY, RESULT, WEIGHTS, task_dir, update_memory
from .loops import test_features
from .memory import ExemplarMemory
from .metrics import IncrementalIoUMetric
from .processes import bare, locked, on_main_process, on_main_process_only
from .report.collect import read_entry, results_document, task_entry
from .report.tables import scenario_table
from .resume import check_same_run, record_run, set_stale_aside, set_torn_aside
from .runner import config_faults_told, task_runner, train
from .tasks import Scenario
from .weights import load_weights


def scenario_args(cfg: Config) -> dict:
    """The arguments of the config's :class:`Scenario` (its ``scenario`` without the setting)."""
    return {key: value for key, value in cfg.scenario.items() if key != 'setting'}


@config_faults_told
def scenario_of(cfg: Config) -> Scenario:
    """The config's scenario."""
    return Scenario(**scenario_args(cfg))


def memory_args(cfg: Config) -> dict:
    """The arguments of the config's :class:`ExemplarMemory`, {} where it has none."""
    args = {key: value for key, value in (cfg.get('memory') or {}).items() if key != 'labels'}
    if cfg.get('memory') and 'size' not in args:
        raise InputError('memory.size is not set; set it to a number of images, or start from a config that ends in _m')
    if args:
        ExemplarMemory(**args)
    return args


@config_faults_told
def task_config(cfg: Config, task: int) -> Config:
    """The config of one task: the only code that edits a config.

    Args:
        cfg: a scenario's config with ``work_dir``.
        task: index of the task.

    Returns:
        A config of which mmengine's ``Runner`` trains and tests the task.
    """
    for key in ('load_from', 'resume'):
        if cfg.get(key):
            raise InputError(f'{key} is set, but every task starts from the weights of the task before; remove it, and '
                             'set model.backbone.init_cfg for pretrained weights, or add --resume to go on with a run')
    cfg = copy.deepcopy(cfg)
    if task > 0:
        cfg.merge_from_dict(cfg.get('incremental', {}))
    scenario, args = Scenario(**scenario_args(cfg)), scenario_args(cfg)
    setting, seed = cfg.scenario.get('setting', 'overlapped'), cfg.randomness.seed
    memory, labels = memory_args(cfg), (cfg.get('memory') or {}).get('labels', 'seen')
    work_dir = cfg.work_dir
    cfg.work_dir = str(task_dir(work_dir, task))
    cfg.experiment_name = f'task_{task}'

    cfg.model.decode_head.classes_per_task = scenario.classes_per_task(task)
    if task > 0 and 'init_cfg' in cfg.model.backbone:
        cfg.model.backbone.init_cfg = None

    train, test = cfg.train_dataloader, cfg.test_dataloader
    if 'data_root' in cfg:
        for loader in (train, test):
            loader.dataset.dataset.setdefault('data_root', cfg.data_root)
    for transform in train.dataset.pipeline:
        if transform.type == 'LabelAugmentation':
            transform.saliency = cfg.saliency
        elif transform.type == 'RandomCrop':
            # Images smaller than a crop are filled up to it.
            cfg.model.data_preprocessor.setdefault('size', transform.crop_size)
    common = dict(scenario=args, task=task, index_cache=str(Path(work_dir)))
    train.dataset.update(common, setting=setting, seed=seed, memory_labels=labels)
    if memory and task > 0:
        train.dataset.memory = str(task_dir(work_dir, task - 1) / MEMORY)
    test.dataset.update(common, test_mode=True)
    train.sampler = dict(type='DefaultSampler', shuffle=False)
    train.batch_sampler.update(seed=seed, task=task)
    test.sampler = dict(type='DefaultSampler', shuffle=False)
    if train.batch_size % get_world_size():
        raise InputError(f'train_dataloader.batch_size is {train.batch_size}, shared by all processes, and cannot be '
                         f'split among {get_world_size()} of them; choose a multiple')
    if memory and len(scenario.tasks) > 1 and train.batch_size < 2:
        raise InputError('train_dataloader.batch_size is 1, but a batch with memory holds an exemplar and an image of '
                         'the task; set it to 2 or more')
    train.batch_size //= get_world_size()
    cache = cfg.get('feature_cache')
    if cache:
        check_cache(**cache)
    if cache and task > 0:
        cfg.train_cfg.update(type='FeatureCacheTrainLoop', **cache)
        cfg.train_cfg.pop('by_epoch', None)
    if cache and len(scenario.tasks) > 1:
        kept = {key: value for key, value in cache.items() if key != 'views'}
        cfg.test_cfg = dict(cfg.get('test_cfg') or {}, type='FeatureCacheTestLoop', **kept)
    for loader in (train, test):
        # Workers that outlive an epoch need to exist.
        loader.persistent_workers = loader.num_workers > 0 and loader.get('persistent_workers', False)

    classes = metainfo_of(cfg)['classes']
    check_classes(work_dir, scenario, classes, cfg.filename)
    evaluator = cfg.get('test_evaluator') or dict(type='IncrementalIoUMetric')
    if not issubclass(METRICS.get(evaluator['type']) or object, IncrementalIoUMetric):
        raise InputError(f'test_evaluator.type is {evaluator["type"]}, but the results are those of '
                         'IncrementalIoUMetric; remove test_evaluator, or set a subclass of it')
    cfg.test_evaluator = dict(evaluator, scenario=args, task=task,
                              learned_iou=learned_iou(work_dir, scenario, task, classes))
    cfg.custom_hooks = [
        *cfg.get('custom_hooks', []),
        dict(type='IncrementalTaskHook', scenario=args, task=task, work_dir=work_dir, seed=seed, memory=memory or None),
        dict(type='CheckpointResumeHook', **cfg.get('checkpoint', {})),
        dict(type='ProgressHook', task=task, num_tasks=len(scenario.tasks),
             classes=[classes[label] for label in scenario.tasks[task]]),
    ]
    if is_distributed() and not torch.cuda.is_available():
        _replace_values(cfg.model, 'type', 'SyncBN', 'GlooSyncBN')
        cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    return cfg


def metainfo_of(cfg: Config) -> dict:
    """Class names and colours by label, background first, from the test data of a task's config."""
    return DATASETS.build(cfg.test_dataloader.dataset).metainfo


def _replace_values(config: Any, key: str, old: str, new: str) -> None:
    """Replace a value wherever a key has it in a nested config."""
    children = config.values() if isinstance(config, dict) else config if isinstance(config, list | tuple) else ()
    if isinstance(config, dict) and config.get(key) == old:
        config[key] = new
    for child in children:
        _replace_values(child, key, old, new)


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


def run_scenario(cfg: Config, tasks: Sequence[int] | None = None, resume: bool = False) -> dict:
    """Train and evaluate the tasks of a scenario, one after the other.

    Args:
        cfg: a scenario's config with ``work_dir``.
        tasks: which tasks, ascending; default all. The task before the first must be there.
        resume: go on where an earlier run of the same config stopped.

    Returns:
        The results document (see ``report.collect``); also written to ``work_dir`` as results.json and results.md.

    Raises:
        InputError: bad config, data or earlier files; nothing was overwritten.
    """
    scenario = scenario_of(cfg)
    tasks = range(len(scenario.tasks)) if tasks is None else tasks
    for task in tasks:
        scenario.check_task(task)
    with machine_faults_told(cfg.work_dir), on_main_process_only(lambda: locked(cfg.work_dir)):
        on_main_process(lambda: _prepare(cfg, tasks, resume))
        try:
            for task in tasks:
                on_main_process(lambda task=task: set_stale_aside(cfg.work_dir, task))
                if not _is_there(cfg, task, WEIGHTS, MEMORY, RESULT):
                    run_task(cfg, task)
                document = on_main_process(lambda: write_results(cfg))
        finally:
            test_features.close()
    return document


def run_task(cfg: Config, task: int) -> None:
    """Train one task, where it is not learned yet, and evaluate it."""
    start = time.monotonic()
    result = task_dir(cfg.work_dir, task) / RESULT
    config = task_config(cfg, task)
    if _is_there(cfg, task, WEIGHTS):
        dataset = DATASETS.build(config.train_dataloader.dataset)
        if not _is_there(cfg, task, MEMORY):
            # It is a function of what is there.
            empty = ExemplarMemory(**memory_args(cfg))
            on_main_process(lambda: update_memory(empty, dataset, cfg.work_dir, cfg.randomness.seed))
        metrics = test_task(cfg, task)
    else:
        if is_main_process():
            result.unlink(missing_ok=True)  # of weights that are no more
        runner = task_runner(config)
        train(runner)
        metrics = runner.test()
        dataset = runner.train_dataloader.dataset
    classes = [dataset.metainfo['classes'][label] for label in dataset.scenario.tasks[task]]
    entry = task_entry(task, classes, dataset.num_new, dataset.num_exemplars, metrics, time.monotonic() - start)
    if is_main_process():
        write_json(result, entry)
    barrier()


def load_task_weights(model: nn.Module, cfg: Config, task: int) -> None:
    """Load a learned task's weights into the model of the task's config."""
    classes = metainfo_of(cfg)['classes']
    scenario = scenario_of(cfg)
    path = Path(cfg.work_dir) / WEIGHTS
    weights, _ = load_weights(path, [classes[label] for label in scenario.seen(task)], task)
    try:
        bare(model).load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f'{path} does not fit the network of the config {cfg.filename}; give the config that was '
                         'trained, with its --cfg-options') from error


def learned_tasks(cfg: Config) -> list[int]:
    """Tasks of which the work dir holds weights."""
    tasks = range(len(scenario_of(cfg).tasks))
    return [task for task in tasks if (task_dir(cfg.work_dir, task) / WEIGHTS).is_file()]


def learned_task(cfg: Config, task: int | None) -> int:
    """A task of which the work dir holds weights: the one asked for, or by default the last.

    Raises:
        InputError: it is not learned, or none is.
    """
    tasks = learned_tasks(cfg)
    if not tasks:
        raise InputError(f'there is no learned task in {cfg.work_dir}; train one with tools/train.py')
    if task is not None and scenario_of(cfg).check_task(task) not in tasks:
        raise InputError(f'task {task} is not learned in {cfg.work_dir}, which holds {", ".join(map(str, tasks))}; '
                         'choose one of them, or train it with tools/train.py')
    return tasks[-1] if task is None else task


def test_task(cfg: Config, task: int) -> dict:
    """Evaluate a learned task.

    Args:
        cfg: a scenario's config with ``work_dir``.
        task: index of the task.

    Returns:
        The metrics of ``IncrementalIoUMetric``.
    """
    cfg = task_config(cfg, learned_task(cfg, task))
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        cfg.pop(key, None)
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook['type'] == 'ProgressHook']
    with machine_faults_told(cfg.work_dir):
        runner = task_runner(cfg)
        load_task_weights(runner.model, cfg, task)
        return runner.test()


def method_name(cfg: Config) -> str:
    """Name of the config's method in tables; with an exemplar memory it ends in '-M'."""
    return cfg.method if not cfg.get('memory') or cfg.method.endswith('-M') else f'{cfg.method}-M'


def document_of(cfg: Config, entries: Sequence[dict]) -> dict:
    """The results document of the config's run with the entries of some of its tasks."""
    return results_document(
        config=str(cfg.filename), dataset=cfg.dataset_name, scenario=scenario_of(cfg),
        setting=cfg.scenario.get('setting', 'overlapped'), method=method_name(cfg), seed=cfg.randomness.seed,
        tasks=entries)


def write_results(cfg: Config) -> dict:
    """Collect the tasks' results into results.json and results.md; returns the document."""
    paths = {task: task_dir(cfg.work_dir, task) / RESULT for task in range(len(scenario_of(cfg).tasks))}
    document = document_of(cfg, [read_entry(path, task) for task, path in paths.items() if path.is_file()])
    write_json(Path(cfg.work_dir) / 'results.json', document)
    write_text(Path(cfg.work_dir) / 'results.md', scenario_table(document))
    return document


@config_faults_told
def _prepare(cfg: Config, tasks: Sequence[int], resume: bool) -> None:
    """Find what is wrong with config, data and earlier files before any training."""
    check_same_run(cfg, tasks, resume)
    remove_leftovers(cfg.work_dir)
    for task in tasks:
        remove_leftovers(task_dir(cfg.work_dir, task))
        set_torn_aside(cfg.work_dir, task)
    if tasks[0] > 0 and not (task_dir(cfg.work_dir, tasks[0] - 1) / WEIGHTS).is_file():
        raise InputError(f'task {tasks[0]} starts from task {tasks[0] - 1}, whose weights are not in {cfg.work_dir}; '
                         f'train the tasks before it first')
    for task in tasks:
        config = task_config(cfg, task)
        DATASETS.build({**config.train_dataloader.dataset, 'memory': None})[0]
        with torch.device('meta'):  # without its numbers a network is built at once
            MODELS.build(config.model)
    DATASETS.build(config.test_dataloader.dataset)[0]
    record_run(cfg)


def _is_there(cfg: Config, task: int, *names: str) -> bool:
    """Whether a task has all the named files; one without memory needs no manifest."""
    return all((task_dir(cfg.work_dir, task) / name).is_file() for name in names if name != MEMORY or cfg.get('memory'))
