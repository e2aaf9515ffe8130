"""The line that shows how far a run is."""
import runpy
import sys
from types import SimpleNamespace

import pytest
import torch
from tiny import ROOT, tiny_options, voc_tree

from ssul_mmseg.datasets import scan
from ssul_mmseg.engine import progress_hook
from ssul_mmseg.engine.progress_hook import ProgressHook
from ssul_mmseg.engine.run_plan import Plan, TaskPlan
from ssul_mmseg.scenario import Scenario

ONE_TASK = Scenario('1-1', 1)
HALF, FULL = '[############------------]', '[########################]'


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(time=100.)
    monkeypatch.setattr(progress_hook.time, 'monotonic', lambda: now.time)
    return now


def runner(done, total=10, scenario=ONE_TASK, task=0, classes=('cat', ), plan=None):
    """A runner after ``done`` of ``total`` iterations; ``classes`` are all of the scenario."""
    data = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=('background', *classes))))
    return SimpleNamespace(
        iter=done, max_iters=total, epoch=done // 5, max_epochs=total // 5, test_dataloader=[None] * 2, task=task,
        train_loop=None, test_loop=SimpleNamespace(dataloader=data),
        scenario_run=SimpleNamespace(scenario=scenario, plan=plan))


def iterate(hook, done, loss=.5, **options):
    hook.after_train_iter(runner(done, **options), done, outputs=dict(loss=torch.tensor(loss)))


def test_first_and_last_line_and_one_per_interval(clock, capsys):
    hook = ProgressHook(interval=20)
    second = dict(scenario=Scenario('1-4', 9), task=1, classes=('a', 'cat', 'dog', 'cow', 'hen', *'bcde'))
    clock.time += 1000  # loading the data is no training
    hook.before_train(runner(0))
    for done in range(10):
        clock.time += 10
        iterate(hook, done, **second)
    hook.after_test_iter(runner(10, **second), 0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == ('task 1/2 (cat, dog, cow and 1 more) [##----------------------]  10%  epoch 1/2  loss 0.5000  '
                        '1:30 to go')
    assert lines[-1].endswith(f'{FULL} 100%  epoch 2/2  loss 0.5000  0:00 to go')
    assert len(lines) == 6  # iterations 1, 3, 5, 7, 9 and the last


def test_time_to_go_counts_what_this_process_has_done(clock, capsys):
    hook = ProgressHook()
    three = dict(scenario=Scenario('3-1', 3), classes=('cat', 'dog', 'cow'))
    hook.before_train(runner(6))
    clock.time += 10
    hook.after_train_iter(runner(6, **three), 6, outputs=dict(loss=1.))
    line = capsys.readouterr().err
    assert line.startswith('task 0/0 (cat, dog, cow) [') and line.endswith(' 70%  epoch 2/2  loss 1.0000  0:30 to go\n')


def test_tasks_to_come_count_until_the_last(clock, capsys):
    """Of 4 images a batch: 10 learning iterations are 120 passes of an image, 10 fresh frozen ones 40."""
    plan = Plan([TaskPlan(10, True, 4, 10, 20.), TaskPlan(10, False, 4, 10, 20.), TaskPlan(9, False, 4, 9, 0.)], last=1)
    hook = ProgressHook(interval=0)
    three = dict(scenario=Scenario('1-1', 3), classes=('cat', 'dog', 'cow'), plan=plan)
    hook.before_train(runner(0))
    clock.time += 60
    iterate(hook, 4, **three)  # 60 of its passes in 60 s: 60 to go, its 20 test images, and 60 of task 1
    clock.time += 10
    hook.before_train(runner(0))
    clock.time += 5
    iterate(hook, 4, **{**three, 'task': 1})
    first, last = capsys.readouterr().err.splitlines()
    assert first.endswith('  1:00, all tasks 2:20 to go') and last.endswith('  0:05 to go')


def test_a_terminal_shows_one_line_that_is_drawn_again(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
    hook = ProgressHook()
    hook.before_train(runner(0))
    clock.time += 3
    # The second comes too soon after the first, the last too soon after the third.
    for done, pause in ((4, .1), (5, .2), (7, .1), (9, 0)):
        iterate(hook, done)
        clock.time += pause
    for batch in range(2):
        hook.after_test_iter(runner(10), batch)
    assert capsys.readouterr().err.split('\r\033[K') == [
        '', f'task 0/0 (cat) {HALF}  50%  epoch 1/2  loss 0.5000  0:03 to go',
        'task 0/0 (cat) [###################-----]  80%  epoch 2/2  loss 0.5000  0:01 to go',
        f'task 0/0 (cat) {FULL} 100%  epoch 2/2  loss 0.5000  0:00 to go\n',
        'task 0/0 (cat) evaluation 1/2 batches', 'task 0/0 (cat) evaluation 2/2 batches\n']


@pytest.mark.parametrize('live', [False, True])
def test_one_process_of_many_shows_it(clock, capsys, monkeypatch, live):
    monkeypatch.setattr(progress_hook, 'is_main_process', lambda: False)
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: live)
    hook = ProgressHook()
    hook.before_train(runner(0))
    iterate(hook, 9)
    hook.after_test_iter(runner(10), 1)
    assert capsys.readouterr().err == ''


def test_a_quiet_run_shows_its_table_alone_and_is_the_same_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scan, 'MANY_MASKS', 10)
    monkeypatch.setattr(scan, 'MANY_FILES', 1)
    monkeypatch.setenv('FORCE_COLOR', '1')  # lets rich show its bars, as in a terminal
    root = voc_tree(tmp_path / 'voc')
    options = {'scenario.name': '19-1', 'train_cfg.max_epochs': 1, **tiny_options(root)}
    main = runpy.run_path(str(ROOT / 'tools/train.py'))['main']
    command = [str(ROOT / 'configs/ssul/voc_15-1.py'), '--work-dir', str(tmp_path / 'work'), '--cfg-options',
               *(f'{key}={value}' for key, value in options.items())]
    main([*command, '--tasks', '0', '--quiet'])
    shown = capsys.readouterr()
    assert shown.err == '' and shown.out.startswith('SSUL on VOC 19-1')
    main([*command, '--resume'])
    shown = capsys.readouterr()
    assert 'task 1/1 (tvmonitor) [' in shown.err and 'task 0' not in shown.err and '| 1 ' in shown.out
    assert 'Reading images and masks' in shown.err
