"""The loop over the tasks of a scenario: one mmengine ``Runner`` per task."""
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from logging import FileHandler
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmengine.logging import MMLogger
from mmseg.registry import MODELS

from ..datasets.task_dataset import TaskDataset
from ..errors import InputError, machine_faults
from ..evaluation.forgetting import forgetting
from ..evaluation.tables import scenario_table
from ..machine import reused_memory, watch_memory
from ..work_dir.files import remove_leftovers, write_json, write_text
from ..work_dir.layout import MEMORY, RESULT, RESULTS, TABLE, WEIGHTS
from ..work_dir.lock import lock_work_dir
from ..work_dir.results import read_entry, results_document, task_entry
from ..work_dir.weights import fill, load_weights
from .config_faults import config_faults
from .memory_hook import update_memory
from .processes import on_main_process, on_main_process_only, unwrap
from .resume import (
    check_classes,
    check_same_run,
    has_recorded_test_data,
    record_run,
    set_stale_aside,
    set_torn_aside,
)
from .run import Run
from .run_plan import plan_run
from .runner import TaskRunner, task_runner, train
from .start_from import copy_learned_task, finish_learned_base
from .task_config import task_config
from .visualizer import add_metrics, finish_visualizer


def run_scenario(cfg: Config, tasks: Sequence[int] | None = None, resume: bool = False,
                 start_from: str | Path | None = None, evaluate: bool = True) -> dict:
    """Train and evaluate the tasks of a scenario, one after the other.

    Args:
        cfg: a scenario's config with ``work_dir``.
        tasks: which tasks, ascending; default all, or all after those of ``start_from``.
        resume: go on where an earlier run of the same config stopped.
        start_from: the work dir of another run; all tasks that it has learned before ``tasks`` are copied.
        evaluate: whether tasks are evaluated; without, no test data are read, and a task has weights and no result.

    Returns:
        The results document (see ``work_dir.results``); also written to ``work_dir`` as results.json and results.md.

    Raises:
        InputError: bad config, data or earlier files; nothing was overwritten.
    """
    run = Run(cfg)
    for task in tasks or ():
        run.scenario.check_task(task)
    with machine_faults(run.work_dir), on_main_process_only(lambda: lock_work_dir(run.work_dir)):
        if start_from is not None:
            tasks = on_main_process(lambda: copy_learned_task(run, Path(start_from), tasks, resume))
        tasks = run.tasks if tasks is None else tasks
        on_main_process(lambda: _prepare(run, tasks, resume, evaluate))
        if start_from is not None and tasks[0] == 1:
            finish_learned_base(run, Path(start_from))
        try:
            with reused_memory() as give_back:
                for task in tasks:
                    on_main_process(partial(set_stale_aside, run.work_dir, task))
                    if not run.has(task, WEIGHTS, MEMORY, *([RESULT] if evaluate else [])):
                        run_task(run, task, evaluate)
                        give_back()
                    document = on_main_process(lambda: write_results(run))
        finally:
            run.test_features.close()
            finish_visualizer(run.work_dir)
    return document


def run_task(run: Run, task: int, evaluate: bool = True) -> None:
    """Train one task, where it is not learned yet, and evaluate it."""
    start, peak_memory = time.monotonic(), watch_memory()
    with _log_errors():
        config = task_config(run.config, task)
        if run.has(task, WEIGHTS):
            dataset = run.train_data(config, task, run.exemplars(task))
            if not run.has(task, MEMORY):
                on_main_process(lambda: update_memory(run, dataset))  # it depends on files alone
            metrics = evaluate_task(run, task) if evaluate else None
        else:
            if is_main_process():
                (run.folder(task) / RESULT).unlink(missing_ok=True)  # it belongs to weights that no longer exist
            runner = task_runner(run, config, task, tests=evaluate)
            train(runner)
            dataset, metrics = runner.train_dataloader.dataset, _test(run, runner) if evaluate else None
    if metrics is None:
        barrier()
        return
    classes = [dataset.metainfo['classes'][label] for label in run.scenario.tasks[task]]
    entry = task_entry(task, classes, dataset.num_new, dataset.num_exemplars, metrics, time.monotonic() - start,
                       peak_memory())
    if run.plan is not None:
        run.plan.record(task, entry['seconds'])
        add_metrics(config, metrics, run.plan.first_step(task + 1))
    if is_main_process():
        write_json(run.folder(task) / RESULT, entry)
    barrier()


@contextmanager
def _log_errors() -> Iterator[None]:
    """Write the traceback of any error that ends a task into its log, even if the screen shows only a sentence."""
    try:
        yield
    except Exception:
        logger = MMLogger.get_current_instance()
        # No log file exists before the runner is built. The level info keeps the traceback off the console.
        if any(isinstance(handler, FileHandler) for handler in logger.handlers):
            logger.info(traceback.format_exc())
        raise


def evaluate_task(run: Run, task: int, tta: bool = False) -> dict:
    """Evaluate a learned task.

    Args:
        run: the run that the task belongs to.
        task: index of the task.
        tta: whether probabilities are averaged over several views of each image (``tta_pipeline``, ``tta_model``).

    Returns:
        The metrics of ``IncrementalIoUMetric``, and what was forgotten (see ``evaluation.forgetting``); nothing is
        said of that with ``tta`` or on other images than the run's, as earlier tasks were evaluated without, or on
        the run's.
    """
    run.learned_task(task)
    cfg = task_config(run.config, task, tta)
    with machine_faults(run.work_dir):
        runner = _learned_runner(run, cfg, task)
        if not tta:
            return _test(run, runner)
        with config_faults(cfg):
            merging = dict(cfg.get('tta_model') or dict(type='IncrementalTTAModel'))
            runner.model = MODELS.build(dict(merging, module=unwrap(runner.model)))
        metrics = runner.test()
        return {**metrics, **forgetting(metrics['IoU'], [])}


def evaluate_open_set(run: Run, task: int) -> dict:
    """Measure how well a learned task finds what belongs to the classes of later tasks; see ``OpenSetMetric``.

    Args:
        run: the run that the task belongs to.
        task: index of the task.

    Raises:
        InputError: it is not learned, or no class is left to be found.
    """
    run.learned_task(task)
    cfg = task_config(run.config, task)
    cfg.model.test_cfg = dict(cfg.model.get('test_cfg') or {}, seg_logits=True)
    cfg.test_evaluator = dict(type='OpenSetMetric', scenario=dict(cfg.scenario), task=task)
    cfg.test_cfg.feature_cache = None
    with machine_faults(run.work_dir):
        return _learned_runner(run, cfg, task).test()


def _learned_runner(run: Run, cfg: Config, task: int) -> TaskRunner:
    """A runner that evaluates the network of a learned task."""
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook['type'] == 'ProgressHook']
    runner = task_runner(run, cfg, task, trains=False)
    classes = runner.test_loop.dataloader.dataset.metainfo['classes']
    check_classes(run.work_dir, run.scenario, classes, run.config.filename)
    path = run.folder(task) / WEIGHTS
    learned = load_weights(path, [classes[label] for label in run.scenario.seen(task)], task)
    fill(unwrap(runner.model), learned.state_dict, path, run.config.filename)
    return runner


def _test(run: Run, runner: TaskRunner) -> dict:
    """Evaluate a runner's network; returns the metrics, and what was forgotten since the earlier tasks' results."""
    metrics = runner.test()
    earlier = range(runner.task) if has_recorded_test_data(run.config) else ()
    learned = [_learned_iou(run, task, metrics['IoU']) for task in earlier]
    return {**metrics, **forgetting(metrics['IoU'], learned, metrics['absent'])}


def _learned_iou(run: Run, task: int, names: Mapping[str, float | None]) -> dict[str, float | None]:
    """IoU of a task's classes when it was learned, in percent; {} where its result is not there."""
    path = run.folder(task) / RESULT
    known = list(names)[:run.scenario.tasks[task].stop]
    new = known[run.scenario.tasks[task].start:]
    if not path.is_file():
        return dict.fromkeys(new)
    entry = read_entry(path, task, known)
    return {name: entry['IoU'][name] for name in new}


def document_of(run: Run, entries: Sequence[dict]) -> dict:
    """Make the results document of a run from the entries of some of its tasks."""
    return results_document(
        config=str(run.config.filename), dataset=run.config.dataset_name, scenario=run.scenario, method=run.name,
        seed=run.seed, tasks=entries)


def write_results(run: Run) -> dict:
    """Collect the tasks' results into results.json and results.md, and return the document."""
    paths = {task: run.folder(task) / RESULT for task in run.tasks}
    document = document_of(run, [read_entry(path, task) for task, path in paths.items() if path.is_file()])
    write_json(run.work_dir / RESULTS, document)
    write_text(run.work_dir / TABLE, scenario_table(document))
    return document


def _prepare(run: Run, tasks: Sequence[int], resume: bool, evaluate: bool) -> None:
    """Find what is wrong with config, data and earlier files before any training."""
    cfg = run.config
    check_same_run(cfg, tasks, resume)
    remove_leftovers(run.work_dir)
    for task in tasks:
        remove_leftovers(run.folder(task))
        set_torn_aside(run.work_dir, task)
    before = tasks[0] - 1
    if before >= 0 and not run.has(before, WEIGHTS):
        raise InputError(f'task {tasks[0]} starts from task {before}, whose weights are not in {run.work_dir}; train '
                         'the tasks before it first, or copy them from another run with --start-from WORK_DIR')
    if before >= 0 and not run.has(before, MEMORY):
        raise InputError(f'task {tasks[0]} replays exemplars, but {run.folder(before) / MEMORY} is missing; choose '
                         f'them again with --tasks {before} --resume, or, where task {before} was copied, start in '
                         'another --work-dir with --start-from')
    learns = {}
    for task in tasks:
        config = task_config(cfg, task)
        with config_faults(config):
            run.train_data(config, task)[0]
            if task in (tasks[0], tasks[-1]):  # the networks between differ only in the number of classes
                model = MODELS.build(config.model)
                learns[task] = model.frozen_prefix is None
                if task > 0:
                    model.check_loop(bool(config.train_cfg.get('solver')))
    with config_faults(cfg):
        data: TaskDataset = run.test_data(config) if evaluate else run.train_data(config, task)
        data[0]
    check_classes(run.work_dir, run.scenario, data.metainfo['classes'], cfg.filename)
    record_run(cfg)
    run.plan = plan_run(run, tasks, learns, model.trunk_fixed)
