"""Processes that a launcher started: they are joined once and parted at the end."""
import os
import signal
import socket
import subprocess
import sys

import pytest
import torch.distributed
from tiny import ROOT

from ssul_mmseg import cli
from ssul_mmseg.engine import launch
from ssul_mmseg.errors import InputError

CONFIG = 'configs/ssul/voc_15-1.py'


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Signals and variables as they were."""
    for name in ('LOCAL_RANK', 'RANK', 'WORLD_SIZE'):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def tool(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)


def parsed(*arguments):
    parser = cli.Parser()
    parser.add_argument('config')
    parser.add_argument('--work-dir')
    cli.add_common_arguments(parser)
    return parser.parse_args([str(ROOT / CONFIG), *arguments])


GROUP = """
import os
import socket
import torch
from ssul_mmseg import cli
from ssul_mmseg.engine import launch
from ssul_mmseg.errors import InputError

def main(argv):
    launch.start_processes('pytorch')
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))
    model.itself = model
    assert threads()
    if {fails}:
        raise InputError('no')

def threads():
    names = [open(f'/proc/self/task/{{task}}/comm').read() for task in os.listdir('/proc/self/task')]
    return [name for name in names if 'gloo' in name]

with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    os.environ.update(RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free.getsockname()[1]))
try:
    cli.run(main)
finally:
    print('left', threads())
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason='the threads of gloo')
@pytest.mark.parametrize('fails', [False, True])
def test_no_thread_of_the_process_group_outlives_a_tool(fails):
    done = tool('-c', GROUP.format(fails=fails))
    assert (done.returncode, done.stdout) == (2 if fails else 0, 'left []\n'), done.stderr


def test_each_process_of_a_launcher_has_a_place_on_its_machine(monkeypatch):
    monkeypatch.setattr(launch, 'start_processes', lambda launcher: None)
    monkeypatch.setenv('OMPI_COMM_WORLD_LOCAL_RANK', '2')
    monkeypatch.setenv('SLURM_LOCALID', '5')
    for launcher, place in (('mpi', '2'), ('slurm', '5'), ('none', '0')):
        cli.configure(parsed('--launcher', launcher))
        assert os.environ.pop('LOCAL_RANK') == place


def test_one_process_of_a_launcher_tells_a_fault_and_so_does_each_that_none_started(monkeypatch):
    monkeypatch.setenv('SLURM_PROCID', '1')  # as in a sweep: srun python tools/train.py --seed $SLURM_PROCID
    for launcher, reported in (('slurm', True), ('none', False)):
        with pytest.raises(InputError, match='no config') as error:
            arguments = parsed('--launcher', launcher)
            arguments.config = 'nowhere.py'
            cli.configure(arguments)
        assert error.value.reported == reported


@pytest.mark.skipif(torch.cuda.is_available(), reason='NCCL needs what each launcher sets')
@pytest.mark.parametrize('launcher, rank, size', [('pytorch', 'RANK', 'WORLD_SIZE'),
                                                  ('slurm', 'SLURM_PROCID', 'SLURM_NTASKS'),
                                                  ('mpi', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE')])
def test_processes_are_joined_once_and_parted_at_the_end(monkeypatch, launcher, rank, size):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    for name, value in {rank: 0, size: 1, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}.items():
        monkeypatch.setenv(name, str(value))

    def main(argv):
        cfg = cli.configure(parsed('--launcher', launcher))
        assert cfg.launcher == launcher and torch.distributed.get_backend() == 'gloo'
        launch.start_processes(launcher)
    cli.run(main)
    assert not torch.distributed.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason='NCCL needs what each launcher sets')
def test_a_launcher_that_did_not_start_the_process_is_reported(monkeypatch):
    for name in ('MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)
    for launcher, variable in (('pytorch', 'RANK'), ('slurm', 'SLURM_PROCID'), ('mpi', 'OMPI_COMM_WORLD_RANK')):
        with pytest.raises(InputError, match=f'--launcher is {launcher}, but {variable} is not set'):
            launch.start_processes(launcher)
    monkeypatch.setenv('SLURM_PROCID', '0')
    monkeypatch.setenv('SLURM_NTASKS', '1')
    monkeypatch.setenv('RANK', '')  # set here, so that it is as it was afterwards
    with pytest.raises(InputError, match='MASTER_ADDR'):
        launch.start_processes('slurm')
