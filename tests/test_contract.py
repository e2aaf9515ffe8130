"""The contract of a method: a run calls its parts at their places, and what it hands on arrives."""
import shutil

import pytest
import torch
from mmengine.hooks import Hook
from mmseg.registry import HOOKS, MODELS
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.methods.ssul import SSUL
from ssul_mmseg.work_dir.weights import load_state, read_weights, save_weights


@MODELS.register_module()
class Gathering(SSUL):
    """A method with a state: it counts its batches, adds up a gradient, and hands both on to the next task."""

    def start_task(self, old):
        super().start_task(old)
        self.inherited = dict(old.state)

    def before_training(self, loader):
        self.images = len(loader.dataset)
        self.steps, self.gradient = torch.zeros(()), torch.zeros(1, 8)

    def before_step(self):
        filters = self.decode_head.classifiers['unknown'][-1]
        self.steps, self.gradient = self.steps + 1, self.gradient + filters.weight.grad[..., 0, 0]
        filters.bias.grad.zero_()

    def task_state(self):
        return {'steps': self.steps, 'gradient': self.gradient}

    def load_task_state(self, state):
        self.steps, self.gradient = state['steps'], state['gradient']

    def finish_task(self, loader):
        assert len(loader.dataset) == self.images
        inherited = {f'before.{key}': value for key, value in getattr(self, 'inherited', {}).items()}
        return {**self.task_state(), **inherited}


class StoppedError(Exception):
    """What stops a run."""


@HOOKS.register_module()
class Stop(Hook):
    """Counts the iterations of a run by task, and stops it before an iteration of task 1."""

    before, seen = None, []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.task == 1 and runner.iter == Stop.before:
            raise StoppedError
        Stop.seen.append((runner.task, runner.iter))


def config(tree, work_dir):
    cfg = tiny_config(tree, work_dir, **{
        'scenario.name': '15-5', 'model.type': 'Gathering', 'checkpoint.interval': 2, 'checkpoint.by_epoch': False,
        'incremental': dict(train_cfg=dict(max_epochs=6))})
    cfg.custom_hooks = [dict(type='Stop')]
    return cfg


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', 24)


@pytest.fixture(scope='module')
def whole(tree, tmp_path_factory):
    """The work dir of an undisturbed run, and how many iterations each task had."""
    work_dir = tmp_path_factory.mktemp('whole')
    Stop.before, Stop.seen = None, []
    run_scenario(config(tree, work_dir))
    tasks = [task for task, _ in Stop.seen]
    return work_dir, (tasks.count(0), tasks.count(1))


def learned(work_dir, task):
    return read_weights(work_dir / f'task_{task}/weights.pth', task)


def test_a_method_sees_and_changes_the_gradients_of_every_update(whole):
    work_dir, iterations = whole
    for task, count in enumerate(iterations):
        done = learned(work_dir, task)
        assert done.method_state['steps'] == count > 4 and done.method_state['gradient'].abs().sum() > 0
        filters = 'decode_head.classifiers.unknown.0'
        # It starts at 0, and its gradient has been set to 0 before each update; its neighbour has learned.
        assert done.state_dict[f'{filters}.bias'] == 0 != done.state_dict['decode_head.classifiers.background.0.bias']


def test_what_a_method_finishes_with_is_where_its_next_task_starts(whole):
    first, second = (learned(whole[0], task).method_state for task in (0, 1))
    assert {key.removeprefix('before.') for key in second if key.startswith('before.')} == set(first) != set()
    for key, value in first.items():
        assert torch.equal(second[f'before.{key}'], value)


def test_a_run_that_was_stopped_goes_on_with_what_the_method_had_gathered(tree, whole, tmp_path):
    work_dir = tmp_path / 'run'
    Stop.before = 5
    with pytest.raises(StoppedError):
        run_scenario(config(tree, work_dir))
    Stop.before, Stop.seen = None, []
    run_scenario(config(tree, work_dir), resume=True)
    assert Stop.seen[0] == (1, 4)
    ours, expected = learned(work_dir, 1), learned(whole[0], 1)
    assert ours.digest == expected.digest and ours.method_state.keys() == expected.method_state.keys()
    for key, value in expected.method_state.items():
        assert torch.equal(ours.method_state[key], value), key


def test_another_state_of_the_task_before_is_another_start(tree, whole, tmp_path):
    work_dir = tmp_path / 'run'
    shutil.copytree(whole[0], work_dir)
    path = work_dir / 'task_0/weights.pth'
    old, meta = learned(work_dir, 0), load_state(path)['meta']
    save_weights(path, old.state_dict, meta['classes'], meta['palette'], 0, meta['origin'],
                 {**old.method_state, 'gradient': old.method_state['gradient'] * 2})
    Stop.before, Stop.seen = None, []
    run_scenario(config(tree, work_dir), resume=True)
    assert Stop.seen[0] == (1, 0)
    assert torch.equal(learned(work_dir, 1).method_state['before.gradient'], old.method_state['gradient'] * 2)
