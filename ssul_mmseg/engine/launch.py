"""Join the process group that a launcher started, and leave it."""
import datetime
import gc
import os
import warnings

import torch
import torch.distributed
from mmengine.dist import init_dist, is_distributed

from ..errors import InputError

# A process may have to wait for the scan of a million masks. If a process dies, its launcher ends the others.
WAIT = datetime.timedelta(days=1)
# Launcher -> (variable that PyTorch's process group reads -> variable that the launcher sets).
VARIABLES = {
    'pytorch': {'RANK': 'RANK', 'WORLD_SIZE': 'WORLD_SIZE'},
    'slurm': {'RANK': 'SLURM_PROCID', 'WORLD_SIZE': 'SLURM_NTASKS'},
    'mpi': {'RANK': 'OMPI_COMM_WORLD_RANK', 'WORLD_SIZE': 'OMPI_COMM_WORLD_SIZE'},
}
# Warnings of PyTorch and mmengine that say what they choose by themselves on GPUs, once for each process.
CHOICES = (r'barrier\(\): using the device under current context', 'Multi-processing start method',
           'Setting MKL_NUM_THREADS')
# Variable that a launcher sets to the rank of a process on its machine, which decides its GPU.
LOCAL_RANKS = {'slurm': 'SLURM_LOCALID', 'mpi': 'OMPI_COMM_WORLD_LOCAL_RANK'}


def start_processes(launcher: str) -> None:
    """Join the process group: NCCL on GPUs, gloo where there is none."""
    if launcher == 'none' or is_distributed():
        return
    missing = [variable for variable in VARIABLES[launcher].values() if variable not in os.environ]
    if missing:
        raise InputError(f'--launcher is {launcher}, but {missing[0]} is not set; start the processes with '
                         'torchrun, srun or mpirun, or leave --launcher out')
    if torch.cuda.is_available():
        for words in CHOICES:
            warnings.filterwarnings('ignore', words, UserWarning)
        init_dist(launcher, backend='nccl', timeout=int(WAIT.total_seconds()))
        return
    for name, variable in VARIABLES[launcher].items():
        os.environ.setdefault(name, os.environ[variable])
    if 'MASTER_ADDR' not in os.environ or 'MASTER_PORT' not in os.environ:
        raise InputError('MASTER_ADDR and MASTER_PORT are not set, by which the processes find each other; set them to '
                         'the host of the first process and to a port that is free on it')
    torch.distributed.init_process_group('gloo', timeout=WAIT)


def leave_processes() -> None:
    """Leave the process group, where there is one, and end its threads.

    A model in a reference cycle would keep the threads until the interpreter ends; a process whose thread then still
    holds a tensor aborts. So collect such cycles first.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()


def first_of(launcher: str) -> bool:
    """Whether this is a launcher's first process, or the only one; known before the processes are joined."""
    return launcher == 'none' or os.environ.get(VARIABLES[launcher]['RANK'], '0') in ('', '0')
