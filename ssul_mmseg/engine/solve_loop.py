"""The train loop of a task that is solved instead of trained: one pass over the trunk, and a convex problem."""
import time
from functools import partial

from mmengine.runner import BaseLoop
from mmseg.registry import LOOPS, TASK_UTILS
from torch import nn

from ..errors import InputError
from ..solver.task_cells import TaskImages
from .feature_cache import FeatureCache
from .processes import unwrap
from .runner import TaskRunner


@LOOPS.register_module()
class TaskSolveLoop(BaseLoop):
    """Solves a task: the method's ``solve`` makes cells of the images and learns from them.

    Nothing in it is random or depends on what was computed before a kill, so that there are no checkpoints: a run that
    goes on begins the task anew and ends in the same weights. An iteration is a group of images that passes the trunk.

    Args:
        runner: the runner.
        dataloader: the training data, with a ``ReplayBatchSampler``.
        solver: config of the solver; None: the method has its own.
        feature_cache: the arguments of :class:`~ssul_mmseg.engine.feature_cache.FeatureCache`, for cells that a solver
            asks for again; None: they are computed again.

    Raises:
        InputError: the network's trunk learns in this task.
    """

    # What mmengine and the hooks ask of a train loop; a solved task is one iteration.
    max_epochs = max_iters = 1
    epoch = 0

    def __init__(self, runner: TaskRunner, dataloader: dict, solver: dict | None = None,
                 feature_cache: dict | None = None) -> None:
        super().__init__(runner, dataloader)
        if not unwrap(runner.model).trunk_frozen:
            raise InputError(f'task {runner.task} would be solved, but its trunk learns; remove incremental.solver')
        self.solver = None if solver is None else TASK_UTILS.build(solver)
        self.options = None if feature_cache is None else dict(feature_cache)
        self.iter = self.passes = 0
        self._start = self._passed = 0.0

    def run(self) -> nn.Module:
        """Solve the task."""
        runner, model = self.runner, unwrap(self.runner.model)
        runner.call_hook('before_train')
        model.train()
        model.before_training(self.dataloader)
        cache = None
        if self.options is not None:
            cache = FeatureCache(
                **self.options, folder=runner.work_dir, taken=runner.scenario_run.test_features.used)
        self._start = time.monotonic()
        context = partial(runner.optim_wrapper.optim_context, model)
        try:
            found = model.solve(TaskImages(model, self.dataloader, cache, context, self._group_done), self.solver)
        finally:
            if cache is not None:
                cache.close()
        found |= dict(seconds_of_pass=self._passed, seconds=time.monotonic() - self._start)
        shown = ', '.join(f'{key} {value:.6g}' for key, value in found.items())
        runner.logger.info(f'task {runner.task} is solved: {shown}')
        self.iter = 1
        runner.call_hook('after_train')
        return runner.model

    def _group_done(self, done: int, total: int) -> None:
        """Show how far the pass is; what follows the last group is the solution."""
        self._passed = time.monotonic() - self._start
        self.runner.call_hook('after_group', done=done, total=total)
        self.passes += done == total
