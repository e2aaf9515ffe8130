"""The iterations and the work of a run's tasks, against runs and by hand."""
import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.run_plan import KEPT, Plan, TaskPlan, task_plan
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config

SEEN = []


@HOOKS.register_module()
class CountingHook(Hook):
    """Notes what a run planned and what it does."""

    def after_train(self, runner):
        plan = runner.scenario_run.plan
        SEEN.append((runner.task, plan.tasks[runner.task].iterations, runner.max_iters, plan.first_step(runner.task),
                     plan.tasks[runner.task].learns, plan.last))


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc')


@pytest.mark.parametrize('options', [
    {'scenario.name': '18-1'}, {'scenario.name': '18-1', 'feature_cache': dict(views=1)},
    {'scenario.name': '18-1', 'memory': dict(size=25), 'train_dataloader.batch_sampler.half_pass': True},
    {'scenario.name': '18-1', 'memory': dict(size=25), 'incremental.train_cfg.max_epochs': 3}])
def test_a_run_has_the_iterations_of_its_plan(tree, tmp_path, options):
    SEEN.clear()
    cfg = tiny_config(tree, tmp_path, **options)
    cfg.custom_hooks = [dict(type='CountingHook')]
    run_scenario(cfg)
    steps = 0
    assert [task for task, *_ in SEEN] == [0, 1, 2]
    for task, planned, done, first, learns, last in SEEN:
        assert planned == done and first == steps and learns == (task == 0) and last == 2
        steps += done


def test_the_work_of_a_task_by_hand():
    """Of 4 images a batch: 6 iterations that learn cost 3 passes an image; of 6 frozen ones 4 are fresh."""
    learning, frozen = TaskPlan(6, True, 4, 6, 10.), TaskPlan(6, False, 4, 4, 1.)
    assert learning.work == 6 * 4 * 3 + 10 and learning.work_until(2) == 24
    assert frozen.work == pytest.approx(16 + 2 * 4 * KEPT + 1) and frozen.work_until(5) == pytest.approx(16 + 4 * KEPT)


def test_time_to_go_is_at_the_pace_of_finished_tasks_of_the_kind():
    learning, frozen = TaskPlan(6, True, 4, 6, 8.), TaskPlan(5, False, 4, 5, 0.)
    plan = Plan([learning, frozen, frozen], last=2)
    # Half of the 72 passes in 18 s: 2 a second.
    assert plan.left(0, 0, 3, 18.) == (18, 18 + 4 + 20)
    # A process that began with iteration 3 has done one: 12 passes in 3 s, so 4 a second.
    assert plan.left(0, 3, 4, 3.) == (6, 6 + 2 + 10)
    plan.record(1, 40.)
    assert plan.left(0, 0, 3, 18.) == (18, 18 + 4 + 80)
    # In a frozen task its own pace counts for what is left of it, the recorded one for the next.
    assert plan.left(1, 0, 2, 4.) == (6, 6 + 40) and plan.left(2, 0, 5, 10.) == (0, 0)
    assert Plan([learning, frozen, frozen], last=1).left(0, 0, 3, 18.) == (18, 18 + 4 + 10)


def test_a_solved_task_is_one_iteration_and_a_task_learned_elsewhere_none(tree, tmp_path):
    solver = dict(solver=dict(type='Newton', views=3))
    cfg = tiny_config(tree, tmp_path, **{'scenario.name': '19-1', 'incremental': solver})
    config = task_config(cfg, 1)
    assert task_plan(config, 7, 40, trunk_learns=False, replays=False, test_kept=False) == TaskPlan(1, False, 21, 1, 40)
    assert task_plan(config, 0, 40, trunk_learns=False, replays=False, test_kept=True).iterations == 0
    assert Run(cfg).plan is None
