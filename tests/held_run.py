"""Runs a tool that stops before an iteration of a task and waits there to be stopped: tests need no luck with time.

python tests/held_run.py TASK ITERATION FOLDER tools/train.py ...: each process leaves its id in FOLDER/held_<rank>.
"""
import os
import runpy
import signal
import sys
from pathlib import Path

from ssul_mmseg.engine.seed_hook import SeedHook

before_train_iter = SeedHook.before_train_iter


def hold(hook, runner, *args, **kwargs):
    """Wait for a signal that ends the process, at the place that the arguments name."""
    before_train_iter(hook, runner, *args, **kwargs)
    if (runner.task, runner.iter) == (int(task), int(iteration)):
        part = Path(folder, f'.part_{runner.rank}')
        part.write_text(str(os.getpid()))
        part.rename(Path(folder, f'held_{runner.rank}'))
        while True:  # data-loader workers send signals too
            signal.pause()


_, task, iteration, folder, *sys.argv = sys.argv
SeedHook.before_train_iter = hold
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name='__main__')
