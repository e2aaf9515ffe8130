"""Run one task with mmengine's runner: with a quiet console, and one place where a task's first weights come from."""
import logging
import traceback
import warnings
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import broadcast, get_world_size
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import nn

from ..datasets.task_dataset import TaskDataset
from ..errors import InputError, is_out_of_memory
from ..models.segmentors import IncrementalSegmentor, OldTask
from ..work_dir.layout import WEIGHTS
from ..work_dir.weights import load_weights
from .config_faults import SELF_REPORTED, config_faults, is_programming_error
from .pretrained import init_weights
from .processes import unwrap
from .run import Run

# What mmengine's runner needs to train and to test; it takes all of them or none.
TRAIN_KEYS = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')
TEST_KEYS = ('test_dataloader', 'test_cfg', 'test_evaluator')


class FormattedOnce(Config):
    """A config whose text is made once: mmengine formats it five times a task, which takes longer than to solve one."""

    @classmethod
    def of(cls, config: Config) -> 'FormattedOnce':
        """The same config."""
        formatted = cls.__new__(cls)
        formatted.__dict__.update(config.__dict__)
        return formatted

    @property
    def pretty_text(self) -> str:
        """The config as formatted Python code."""
        content = repr(self._cfg_dict)
        # Not as an attribute, which would become a key of the config.
        if self.__dict__.get('_formatted', ('', ))[0] != content:
            self.__dict__['_formatted'] = content, super().pretty_text
        return self.__dict__['_formatted'][1]


class TaskRunner(Runner):
    """The runner of one task of a run.

    Its log goes to the task's file, warnings also to the screen. :func:`task_runner` builds it.
    """

    scenario_run: Run
    """The run that the task belongs to."""
    task: int
    """Index of the task."""
    old_digest: str = ''
    """Checksum of the weights that the task started from; '' in task 0."""

    def build_logger(self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs: Any) -> MMLogger:
        """Build the logger; only warnings and errors reach the console."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                # On a full disk logging would print a traceback per line; saving the results reports the fault.
                handler.handleError = lambda record: None  # type: ignore[method-assign]
            else:
                handler.setLevel(logging.WARNING)
                handler.addFilter(_is_worth_the_console)
        return logger

    def wrap_model(self, model_wrapper_cfg: dict | None, model: IncrementalSegmentor) -> nn.Module:
        """Freeze what the task does not learn, then wrap the model for several processes."""
        model.freeze()  # before the wrapper collects the parameters that learn
        # PyTorch's warning is about an argument that mmengine gives it.
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', '`broadcast_buffers` is deprecated', FutureWarning)
            return super().wrap_model(model_wrapper_cfg, model)

    def _maybe_compile(self, target: str) -> None:
        """Compile the backbone where the config says ``compile``; mmengine would compile a whole step.

        What follows the trunk depends on each image's data and would be compiled again and again.
        """
        options = self.cfg.get('compile')
        if options:
            try:
                unwrap(self.model).backbone.compile(**({} if options is True else options))
            except (TypeError, ValueError, RuntimeError) as error:
                raise InputError(f'compile is {options!r}, which torch.compile refuses ({error}); set it to True, '
                                 'False, or a dict of torch.compile\'s options') from error

    def _init_model_weights(self) -> None:
        """Give the network its first weights: in task 0 as mmengine does, later those of the task before.

        This is the only place where a task's weights come from. Nothing draws weights after ``start_task``: what it
        transfers to new filters would be lost.
        """
        if self.task == 0:
            init_weights(unwrap(self.model), super()._init_model_weights, bool(self.cfg.get('trust_pickled_weights')))
            return
        run, model = self.scenario_run, unwrap(self.model)
        classes = self.train_dataloader.dataset.metainfo['classes']
        old = load_weights(run.folder(self.task - 1) / WEIGHTS,
                           [classes[label] for label in run.scenario.old(self.task)], self.task - 1)
        model.start_task(OldTask(old.state_dict, old.method_state))
        self.old_digest = old.digest
        for value in model.state_dict().values():
            broadcast(value)  # each process has drawn the new filters for itself


def _is_worth_the_console(record: logging.LogRecord) -> bool:
    """Hide mmengine's line per frozen tensor."""
    return not record.getMessage().endswith('is skipped since its requires_grad=False')


def task_runner(run: Run, cfg: Config, task: int, trains: bool = True, tests: bool = True) -> TaskRunner:
    """Build all that a task's config describes, before anything is trained.

    Args:
        run: the run that the task belongs to.
        cfg: the task's config.
        task: index of the task.
        trains: whether the runner trains the task, or only evaluates it.
        tests: whether it evaluates the task, for which it needs the test data.
    """
    data, cfg = {}, cfg.copy()
    # mmengine finds logger and visualizer by this name and the second: a runner would get those of another task.
    cfg.experiment_name = cfg.work_dir
    if tests:
        data['test'] = run.test_data(cfg)
    if trains:
        data['train'] = run.train_data(cfg, task, run.exemplars(task))
    left_out = [*(() if trains else TRAIN_KEYS), *(() if tests else TEST_KEYS)]
    for key in left_out:
        cfg.pop(key, None)
    if not trains:
        cfg.visualizer = None  # an evaluation has no series of values
    with config_faults(cfg):
        runner = TaskRunner.from_cfg(FormattedOnce.of(cfg))
        runner.scenario_run, runner.task = run, task
        if run.plan is not None:
            runner.visualizer.first_step = run.plan.first_step(task)
        for split, dataset in data.items():
            loader = getattr(runner, f'_{split}_dataloader')
            setattr(runner, f'_{split}_dataloader', {**loader, 'dataset': dict(type=_as_type(dataset))})
        # The first access builds a loop.
        if tests:
            _ = runner.test_loop
        if trains:
            _ = runner.train_loop
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
            runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers or [])
    return runner


def _as_type(dataset: TaskDataset) -> Any:
    """Make a type of data set whose construction returns an existing one; given the object, mmengine would copy it."""
    def give() -> TaskDataset:
        return dataset
    return give


def train(runner: TaskRunner) -> None:
    """Train a task; an error before the first update is the config's fault, unless code is wrong.

    Raises:
        InputError: the network, the data and the optimizer of the config do not go together.
    """
    # A hook of the optimizer is the only place where gradients are all-reduced, unscaled and clipped, but not used yet.
    model = unwrap(runner.model)
    runner.optim_wrapper.optimizer.register_step_pre_hook(lambda *_: model.before_step())
    try:
        runner.train()
    except SELF_REPORTED:
        raise
    except Exception as error:  # layers, losses and optimizers raise almost anything
        fault = str(error)
        machine = fault.startswith('DataLoader worker') or is_out_of_memory(fault)
        if runner.iter > 0 or machine or is_programming_error(error):
            raise
        layer = _starved_layer(error, runner)
        if layer:
            raise InputError(f'the first step of {Path(runner.work_dir).name} failed: {layer}, a BatchNorm layer, '
                             'cannot learn from one value per channel, as its images are pooled to one pixel and there '
                             f'is 1 image for each process; set train_dataloader.batch_size to {2 * get_world_size()} '
                             'or more') from error
        fault = f'{type(error).__name__}: {" ".join(fault.split())}'
        raise InputError(f'the first step of {Path(runner.work_dir).name} failed ({fault}); the sizes of network and '
                         'crop, or the values of the optimizer, do not go together: correct the config, or the '
                         '--cfg-options') from error


def _starved_layer(error: Exception, runner: TaskRunner) -> str | None:
    """Name of the BatchNorm layer in which an error arose for want of a second value per channel, or None."""
    if runner.train_dataloader.batch_sampler.batch_size > 1:
        return None
    called = [frame.f_locals.get('self') for frame, _ in traceback.walk_tb(error.__traceback__)]
    layers = [module for module in called if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    names = {id(module): name for name, module in unwrap(runner.model).named_modules()}
    return names.get(id(layers[-1])) if layers else None
