"""Show in one line how far training is and how long it will take."""
import sys
import time

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from ..evaluation.tables import duration
from .runner import TaskRunner


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows task, epoch, loss and time to go: a bar that redraws itself in a terminal, a line now and then in a log.

    Args:
        interval: seconds between two lines where the output is no terminal.
    """

    priority = 'VERY_LOW'
    WIDTH = 24

    def __init__(self, interval: float = 15.0) -> None:
        self.live = sys.stderr.isatty()
        self.interval = 0.2 if self.live else interval
        self._start = self._shown = time.monotonic()
        self._first = 0

    def before_train(self, runner: TaskRunner) -> None:
        """Start the clock."""
        self._start, self._shown, self._first = time.monotonic(), 0.0, runner.iter

    def after_train_iter(self, runner: TaskRunner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Show how far training is."""
        done = runner.iter + 1
        if self._due(done == runner.max_iters):
            loss = torch.as_tensor((outputs or {})['loss']).item()
            what = f'epoch {runner.epoch + 1}/{runner.max_epochs}  loss {loss:.4f}'
            self._show(runner, done, runner.max_iters, what)

    def after_group(self, runner: TaskRunner, done: int, total: int) -> None:
        """Show how far a pass of a solved task over its images is; where nothing is kept there are many."""
        if self._due(done == total and not runner.train_loop.passes):
            self._show(runner, done, total, 'features')

    def _due(self, last: bool) -> bool:
        """Whether this process shows something now."""
        return is_main_process() and (last or time.monotonic() - self._shown >= self.interval)

    def _show(self, runner: TaskRunner, done: int, total: int, what: str) -> None:
        """Show a bar, what is at work, and the time to go."""
        now = self._shown = time.monotonic()
        share = done / total
        bar = '#' * round(share * self.WIDTH)
        left = self._left(runner, done, total, now - self._start)
        self._write(f'{title_of(runner)} [{bar:-<{self.WIDTH}}] {share:4.0%}  {what}  {left} to go', last=done == total)

    def _left(self, runner: TaskRunner, done: int, total: int, seconds: float) -> str:
        """Time to go of the task's training, and of all tasks where it is not the run's last."""
        plan = runner.scenario_run.plan
        if plan is None or plan.tasks[runner.task].iterations != total:
            # A solved task counts groups of images, not iterations.
            return duration(seconds / (done - self._first) * (total - done))
        training, run = plan.left(runner.task, self._first, done, seconds)
        return duration(training) + (f', all tasks {duration(run)}' if runner.task < plan.last else '')

    def after_test_iter(self, runner: TaskRunner, batch_idx: int, data_batch: dict | None = None,
                        outputs: list | None = None) -> None:
        """Show how far the evaluation is."""
        if self.live and is_main_process():
            total = len(runner.test_dataloader)
            self._write(f'{title_of(runner)} evaluation {batch_idx + 1}/{total} batches', last=batch_idx + 1 == total)

    def _write(self, line: str, last: bool) -> None:
        """Redraw the line in a terminal, else write it."""
        end = '\n' if last or not self.live else ''
        sys.stderr.write(f'\r\033[K{line}{end}' if self.live else f'{line}\n')
        sys.stderr.flush()


def title_of(runner: TaskRunner) -> str:
    """Name the task and the classes that it learns, of many only the first three."""
    # A runner that only trains has no test loop, one that only tests no train loop.
    loop = runner.train_loop or runner.test_loop
    scenario, classes = runner.scenario_run.scenario, loop.dataloader.dataset.metainfo['classes']
    names = [classes[label] for label in scenario.tasks[runner.task]]
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    shown = ', '.join(names[:3]) + more
    return f'task {runner.task}/{len(scenario.tasks) - 1} ({shown})'
