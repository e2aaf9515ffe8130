"""How many iterations the tasks of a run have, and how long they will take."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmseg.registry import TASK_UTILS

from ..datasets.samplers import ReplayBatchSampler
from ..errors import InputError
from .task_config import task_config

if TYPE_CHECKING:
    from .run import Run

LEARNING = 3.0
"""Passes of an image through a trunk that learns: a backward pass costs about two forward passes."""
KEPT = 0.1
"""Cost of an image whose features are kept, in passes through the trunk: upsampling, loss and classifiers are left."""
VIEWS = 5
"""Views of each image where ``feature_cache`` does not say how many."""


@dataclass(frozen=True)
class TaskPlan:
    """The work of one task; its unit is the pass of one image through the trunk.

    Args:
        iterations: updates of the task; 1 where it is solved.
        learns: whether the trunk learns.
        images: images of an iteration.
        fresh: the first iterations, in which images pass the trunk; in the others features are kept.
        test: work of the evaluation.
    """

    iterations: int
    learns: bool
    images: int
    fresh: int
    test: float

    def work_until(self, iteration: int) -> float:
        """Work of the iterations before one."""
        fresh = min(iteration, self.fresh)
        return self.images * (fresh * (LEARNING if self.learns else 1.0) + (iteration - fresh) * KEPT)

    @property
    def work(self) -> float:
        """Work of training and evaluation."""
        return self.work_until(self.iterations) + self.test


@dataclass
class Plan:
    """The work of all tasks, and how long it took where it is done.

    The estimate of the tasks to come: their work, at the pace of the last finished task of their kind (with a trunk
    that learns, or with a frozen one), or at the pace of the task at work, where this run has finished none.

    Args:
        tasks: one of each task of the scenario.
        last: the last task that the run will learn.
        paces: seconds per unit of work, by whether the trunk learns.
    """

    tasks: Sequence[TaskPlan]
    last: int
    paces: dict[bool, float] = field(default_factory=dict)

    def first_step(self, task: int) -> int:
        """Iterations of the tasks before one."""
        return sum(plan.iterations for plan in self.tasks[:task])

    def record(self, task: int, seconds: float) -> None:
        """Note how long a task took, with its evaluation."""
        self.paces[self.tasks[task].learns] = seconds / max(1.0, self.tasks[task].work)

    def left(self, task: int, first: int, done: int, seconds: float) -> tuple[float, float]:
        """Seconds to go of a task's training, and of the whole run.

        Args:
            task: index of the task at work.
            first: iteration with which this process began.
            done: iterations that are done.
            seconds: time since then.
        """
        plan = self.tasks[task]
        pace = seconds / max(1.0, plan.work_until(done) - plan.work_until(first))
        training = pace * (plan.work_until(plan.iterations) - plan.work_until(done))
        later = sum(self.paces.get(other.learns, pace) * other.work for other in self.tasks[task + 1:self.last + 1])
        return training, training + pace * plan.test + later


def plan_run(run: 'Run', tasks: Sequence[int], learns: Mapping[int, bool], trunk_fixed: bool) -> Plan:
    """Plan all tasks of a run, those too that are learned already: the steps of later ones go on from theirs.

    Args:
        run: the run.
        tasks: the tasks that it will learn, ascending.
        learns: whether the trunk learns, of the first and the last of ``tasks``; those between are as the last.
        trunk_fixed: whether no task after the first changes the trunk, so that features of test images can be kept.
    """
    plans = []
    for task in run.tasks:
        config = task_config(run.config, task)
        try:
            num_new = run.train_data(config, task).num_new
        except InputError:
            num_new = 0  # learned by another run, of images that are not here; a task to learn has passed this check
        trunk_learns = learns[tasks[0]] if task <= tasks[0] else learns[tasks[-1]]
        test_kept = trunk_fixed and task > tasks[0] and config.test_cfg.feature_cache is not None
        plans.append(task_plan(config, num_new, len(run.test_data(config)), trunk_learns,
                               replays=task > 0 and run.memory is not None, test_kept=test_kept))
    return Plan(plans, tasks[-1])


def task_plan(cfg: Config, num_new: int, num_test: int, trunk_learns: bool, replays: bool, test_kept: bool) -> TaskPlan:
    """Plan one task.

    Args:
        cfg: the task's config.
        num_new: images of the task; 0 where they are not here.
        num_test: test images.
        trunk_learns: whether the trunk learns.
        replays: whether the task replays exemplars.
        test_kept: whether the features of the test images are kept from an earlier task.
    """
    test = num_test * (KEPT if test_kept else 1.0)
    if not num_new:
        return TaskPlan(0, trunk_learns, 0, 0, test)
    if cfg.train_cfg.type == 'TaskSolveLoop':
        solver = cfg.train_cfg.get('solver')
        views = TASK_UTILS.build(solver).views if solver else cfg.model.get('views', 1)
        return TaskPlan(1, trunk_learns, num_new * views, 1, test)
    size = cfg.train_dataloader.batch_size * get_world_size()
    epoch = ReplayBatchSampler.iterations_of_epoch(
        num_new, size, replays, cfg.train_dataloader.batch_sampler.get('half_pass', False))
    epochs = cfg.train_cfg.max_epochs
    cache = cfg.train_cfg.feature_cache
    fresh = epochs if trunk_learns or cache is None else min(epochs, cache.get('views', VIEWS))
    return TaskPlan(epochs * epoch, trunk_learns, size, fresh * epoch, test)
