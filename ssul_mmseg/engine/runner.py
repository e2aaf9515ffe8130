"""mmengine's runner for one task: a quiet console, nothing unpickled, and faults of the config in one sentence."""
import functools
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import nn

from ..errors import OUT_OF_MEMORY, InputError
from .pretrained import init_weights
from .processes import bare

P, T = ParamSpec('P'), TypeVar('T')


class TaskRunner(Runner):
    """mmengine's runner with a quiet console: its log goes to the file, warnings also to the screen."""

    def build_logger(self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs: Any) -> MMLogger:
        """Build the logger; only warnings and errors reach the console."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                # On a full disk every line would print a traceback; what matters fails by itself.
                handler.handleError = lambda record: None
            else:
                handler.setLevel(logging.WARNING)
                handler.addFilter(_tells)
        return logger

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Freeze what the task does not learn, then wrap the model for several processes."""
        model.freeze()  # before a wrapper lists what learns
        # PyTorch's warning is about an argument that mmengine gives it.
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', '`broadcast_buffers` is deprecated', FutureWarning)
            return super().wrap_model(model_wrapper_cfg, model)

    def _maybe_compile(self, target: str) -> None:
        """Compile the backbone where the config says ``compile``; mmengine would compile a whole step.

        What follows the trunk depends on the data, image by image, and would be compiled again and again.
        """
        options = self.cfg.get('compile')
        if options:
            try:
                bare(self.model).backbone.compile(**({} if options is True else options))
            except (TypeError, ValueError, RuntimeError) as error:
                raise InputError(f'compile is {options!r}, which torch.compile refuses ({error}); set it to True, '
                                 'False, or a dict of torch.compile\'s options') from error

    def _init_model_weights(self) -> None:
        """Initialise the weights as mmengine does; pretrained ones must fit."""
        init_weights(bare(self.model), super()._init_model_weights, bool(self.cfg.get('trust_pickled_weights')))


def _tells(record: logging.LogRecord) -> bool:
    """Whether a line is worth the console: not mmengine's for every frozen tensor, that it does not learn."""
    return not record.getMessage().endswith('is skipped since its requires_grad=False')


def config_faults_told(use: Callable[Concatenate[Config, P], T]) -> Callable[Concatenate[Config, P], T]:
    """Decorate a function of a config: errors of the classes that it names become one :class:`InputError`."""
    @functools.wraps(use)
    def told(cfg: Config, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return use(cfg, *args, **kwargs)
        except (InputError, OSError, MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:
            raise InputError(f'the config {cfg.filename} cannot be used ({type(error).__name__}: {error}); correct it, '
                             'or the --cfg-options') from error
    return told


@config_faults_told
def task_runner(cfg: Config) -> TaskRunner:
    """Build all that a task's config describes, before anything is trained."""
    runner = TaskRunner.from_cfg(cfg)
    train_loop, _ = runner.train_loop, runner.test_loop  # they are built when they are asked for
    if train_loop is not None:
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers or [])
    return runner


def train(runner: TaskRunner) -> None:
    """Train a task; what fails before its first update is told as a fault of the config.

    Raises:
        InputError: the network, the data and the optimizer of the config do not go together.
    """
    try:
        runner.train()
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:  # layers, losses and optimizers raise almost anything
        fault = str(error)
        if runner.iter > 0 or fault.startswith('DataLoader worker') or any(sign in fault for sign in OUT_OF_MEMORY):
            raise
        fault = f'{type(error).__name__}: {" ".join(fault.split())}'
        raise InputError(f'the first step of {Path(runner.work_dir).name} failed ({fault}); the sizes of network and '
                         'crop, or the values of the optimizer, do not go together: correct the config, or the '
                         '--cfg-options') from error
