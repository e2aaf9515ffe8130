"""What the command-line tools share: arguments, processes, and errors in one sentence."""
import argparse
import datetime
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import torch
import torch.distributed
from mmengine.config import Config, DictAction
from mmengine.dist import init_dist, is_distributed, is_main_process

from .errors import InputError
from .options import read_config

__all__ = ['Parser', 'add_common_arguments', 'add_config_options', 'configured', 'default_work_dir',
           'is_main_process', 'run']

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
# A process may wait long: for the scan of a million masks. Launchers end those that wait for a dead one.
WAIT = datetime.timedelta(days=1)
# What a launcher sets, and what the process group needs to know of it.
VARIABLES = {
    'pytorch': {'RANK': 'RANK', 'WORLD_SIZE': 'WORLD_SIZE'},
    'slurm': {'RANK': 'SLURM_PROCID', 'WORLD_SIZE': 'SLURM_NTASKS'},
    'mpi': {'RANK': 'OMPI_COMM_WORLD_RANK', 'WORLD_SIZE': 'OMPI_COMM_WORLD_SIZE'},
}
# What a launcher sets to the place of a process on its machine, which decides its GPU.
LOCAL_RANKS = {'slurm': 'SLURM_LOCALID', 'mpi': 'OMPI_COMM_WORLD_LOCAL_RANK'}


class Options(DictAction):
    """mmengine's KEY=VALUE arguments; one without '=' is an error."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Sequence[str],
                 option_string: str | None = None) -> None:
        """Parse the values into a dict."""
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} {value} has no value; give KEY=VALUE')
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError, RecursionError) as error:
            parser.error(f'{option_string} has a value that cannot be read ({error}); write lists as [1,2], and text '
                         'without brackets and commas')


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line, exit code 2."""

    def error(self, message: str) -> None:
        """End the program."""
        self.exit(2, f'error: {message}; see {self.prog} --help\n')


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add the argument that changes values of the config."""
    parser.add_argument('--cfg-options', nargs='+', action=Options, default={}, metavar='KEY=VALUE',
                        help='config values to change, such as model.tau=0.8')


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every tool that runs a config in one or several processes."""
    add_config_options(parser)
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none',
                        help='how the processes were started; dist_train.sh and slurm_train.sh set it')
    # torch.distributed.launch passes it; torchrun sets LOCAL_RANK.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def configured(args: argparse.Namespace) -> Config:
    """The config of parsed arguments, with its work dir; starts the process group where there is one."""
    if 'LOCAL_RANK' not in os.environ:
        os.environ['LOCAL_RANK'] = os.environ.get(LOCAL_RANKS.get(args.launcher, ''), str(args.local_rank))
    try:
        cfg = read_config(args.config, args.cfg_options)
    except InputError as error:
        error.told = not first_of(args.launcher)  # all processes read the same config
        raise
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or default_work_dir(args.config)
    cfg.launcher = args.launcher
    start_processes(args.launcher)
    return cfg


def start_processes(launcher: str) -> None:
    """Join the process group: NCCL on GPUs, gloo where there is none."""
    if launcher == 'none' or is_distributed():
        return
    missing = [variable for variable in VARIABLES[launcher].values() if variable not in os.environ]
    if missing:
        raise InputError(f'--launcher is {launcher}, but {missing[0]} is not set; start the processes with '
                         'tools/dist_train.sh, tools/slurm_train.sh or mpirun, or leave --launcher out')
    if torch.cuda.is_available():
        init_dist(launcher, backend='nccl', timeout=int(WAIT.total_seconds()))
        return
    for name, variable in VARIABLES[launcher].items():
        os.environ.setdefault(name, os.environ[variable])
    if 'MASTER_ADDR' not in os.environ or 'MASTER_PORT' not in os.environ:
        raise InputError('MASTER_ADDR and MASTER_PORT are not set, by which the processes find each other; set them to '
                         'the host of the first process and to a port that is free on it')
    torch.distributed.init_process_group('gloo', timeout=WAIT)


def run(main: Callable[[Sequence[str] | None], None], resume_command: Callable[[], str] | None = None) -> None:
    """Run a tool's ``main``; end with a sentence and exit code 2 on bad input, cleanly on Ctrl-C and SIGTERM."""
    signal.signal(signal.SIGTERM, _interrupt)
    code = 0
    try:
        main(None)
    except InputError as error:
        code = _fail('' if error.told else f'error: {error.sentence}', 2)
    except KeyboardInterrupt:
        hint = f'; go on with: {resume_command()}' if resume_command else ''
        code = _fail(f'stopped{hint}' if is_main_process() else '', 130)
    finally:
        leave_processes()
    if code:
        sys.exit(code)


def leave_processes() -> None:
    """Leave the process group, where there is one, and end its threads.

    A model in a reference cycle would keep them beyond the interpreter's end, which aborts a process whose thread
    still has a tensor to give back.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Treat SIGTERM as Ctrl-C."""
    raise KeyboardInterrupt


def first_of(launcher: str) -> bool:
    """Whether this is a launcher's first process, or the only one; known before the processes are joined."""
    return launcher == 'none' or os.environ.get(VARIABLES[launcher]['RANK'], '0') in ('', '0')


def _fail(message: str, code: int) -> int:
    """Write a message, if there is one, to the error stream; returns the exit code."""
    if message:
        print(f'\n{message}' if sys.stderr.isatty() else message, file=sys.stderr)
    return code


def default_work_dir(config: str) -> str:
    """``work_dirs/<folder>/<config>``: configs of different methods share names."""
    path = Path(config)
    return str(Path('work_dirs', path.parent.name, path.stem))
