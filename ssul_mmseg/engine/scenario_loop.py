"""The loop over the tasks of a scenario: one mmengine ``Runner`` per task."""
import time
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmseg.registry import DATASETS, MODELS

from ..datasets.memory import ExemplarMemory
from ..errors import InputError, machine_faults_told
from ..evaluation.tables import scenario_table
from ..work_dir.files import remove_leftovers, write_json, write_text
from ..work_dir.layout import MEMORY, RESULT, RESULTS, TABLE, WEIGHTS, task_dir
from ..work_dir.results import read_entry, results_document, task_entry
from ..work_dir.weights import fill, load_weights
from .loops import test_features
from .processes import bare, locked, on_main_process, on_main_process_only
from .resume import check_same_run, record_run, set_stale_aside, set_torn_aside
from .runner import config_faults_told, task_runner, train
from .task_config import memory_args, scenario_of, setting_of, task_config
from .task_hook import update_memory


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
        metrics = evaluate_task(cfg, task)
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


def evaluate_task(cfg: Config, task: int) -> dict:
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
        classes = runner.test_loop.dataloader.dataset.metainfo['classes']
        path = Path(cfg.work_dir) / WEIGHTS
        weights, _ = load_weights(path, [classes[label] for label in scenario_of(cfg).seen(task)], task)
        fill(bare(runner.model), weights, path, cfg.filename)
        return runner.test()


def method_name(cfg: Config) -> str:
    """Name of the config's method in tables; with an exemplar memory it ends in '-M'."""
    return cfg.method if not cfg.get('memory') or cfg.method.endswith('-M') else f'{cfg.method}-M'


def document_of(cfg: Config, entries: Sequence[dict]) -> dict:
    """The results document of the config's run with the entries of some of its tasks."""
    return results_document(
        config=str(cfg.filename), dataset=cfg.dataset_name, scenario=scenario_of(cfg),
        setting=setting_of(cfg), method=method_name(cfg), seed=cfg.randomness.seed,
        tasks=entries)


def write_results(cfg: Config) -> dict:
    """Collect the tasks' results into results.json and results.md; returns the document."""
    paths = {task: task_dir(cfg.work_dir, task) / RESULT for task in range(len(scenario_of(cfg).tasks))}
    document = document_of(cfg, [read_entry(path, task) for task, path in paths.items() if path.is_file()])
    write_json(Path(cfg.work_dir) / RESULTS, document)
    write_text(Path(cfg.work_dir) / TABLE, scenario_table(document))
    return document


@config_faults_told
def _prepare(cfg: Config, tasks: Sequence[int], resume: bool) -> None:
    """Find what is wrong with config, data and earlier files before any training."""
    check_same_run(cfg, tasks, resume)
    remove_leftovers(cfg.work_dir)
    for task in tasks:
        remove_leftovers(task_dir(cfg.work_dir, task))
        set_torn_aside(cfg.work_dir, task)
    before = tasks[0] - 1
    if before >= 0 and not (task_dir(cfg.work_dir, before) / WEIGHTS).is_file():
        raise InputError(f'task {tasks[0]} starts from task {before}, whose weights are not in {cfg.work_dir}; train '
                         'the tasks before it first')
    if before >= 0 and not _is_there(cfg, before, MEMORY):
        raise InputError(f'task {tasks[0]} replays exemplars, but {task_dir(cfg.work_dir, before) / MEMORY} is '
                         f'missing; choose them again with --tasks {before} --resume, or leave memory out')
    for task in tasks:
        config = task_config(cfg, task)
        DATASETS.build({**config.train_dataloader.dataset, 'memory': None})[0]
        if task in (tasks[0], tasks[-1]):  # those between differ in the number of classes
            MODELS.build(config.model)
    DATASETS.build(config.test_dataloader.dataset)[0]
    record_run(cfg)


def _is_there(cfg: Config, task: int, *names: str) -> bool:
    """Whether a task has all the named files; one without memory needs no manifest."""
    return all((task_dir(cfg.work_dir, task) / name).is_file() for name in names if name != MEMORY or cfg.get('memory'))
