"""Hand n workers of a sweep to a cluster, or start them here, by submitit (the extra ``cluster``)."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError

LOGS = 'submitit'
"""Folder of the workers' logs, below the sweep's."""


def submit_workers(command: Sequence[str], number: int, folder: Path, parameters: Mapping[str, Any],
                   cluster: str | None = None) -> list[Any]:
    """Submit a command n times, each a worker of the same sweep.

    Args:
        command: a command of ``ssul sweep``.
        number: how many workers.
        folder: the sweep's folder.
        parameters: submitit's, such as ``slurm_partition``, ``timeout_min`` or ``slurm_gpus_per_node``.
        cluster: submitit's name of where to run; None: Slurm where there is one, else this machine.

    Returns:
        submitit's jobs.

    Raises:
        InputError: submitit is missing, or does not know a parameter.
    """
    try:
        import submitit
    except ImportError as error:
        raise InputError("--submit needs submitit; install it with pip install 'ssul_mmseg[cluster]', or start the "
                         'command without --submit as many times as you like') from error
    executor = submitit.AutoExecutor(folder=folder / LOGS, cluster=cluster)
    try:
        executor.update_parameters(**{'name': folder.name, **parameters})
    except (NameError, TypeError, ValueError, AssertionError) as error:
        raise InputError(f'--submit-options {" ".join(parameters)} cannot be used ({" ".join(str(error).split())}); '
                         'correct them') from error
    work = submitit.helpers.CommandFunction(list(command), verbose=False)
    return [executor.submit(work) for _ in range(number)]
