"""The line that shows how far a run is."""
from types import SimpleNamespace

import pytest
import torch

from ssul_mmseg import progress
from ssul_mmseg.progress import ProgressHook, duration


@pytest.mark.parametrize('seconds, text', [(0, '0:00'), (59.6, '1:00'), (61, '1:01'), (7325, '2:02:05')])
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(time=100.)
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now.time)
    return now


def runner(done, total=10):
    return SimpleNamespace(iter=done, max_iters=total, epoch=done // 5, max_epochs=total // 5)


def test_first_and_last_line_and_one_per_interval(clock, capsys):
    hook = ProgressHook(1, 3, ['cat', 'dog', 'cow', 'hen'], interval=15)
    hook.before_train(runner(0))
    for i in range(10):
        clock.time += 10
        hook.after_train_iter(runner(i), i, outputs=dict(loss=torch.tensor(.5)))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == ('task 1/2 (cat, dog, cow and 1 more) [##----------------------]  10%  epoch 1/2  loss 0.5000  '
                        '1:30 to go')
    assert lines[-1].endswith('[########################] 100%  epoch 2/2  loss 0.5000  0:00 to go')
    assert len(lines) == 6  # iterations 1, 3, 5, 7, 9 and the last


def test_time_to_go_counts_what_this_process_has_done(clock, capsys):
    hook = ProgressHook(0, 1, ['cat'])
    hook.before_train(runner(6))
    clock.time += 10
    hook.after_train_iter(runner(6), 6, outputs=dict(loss=1.))
    assert capsys.readouterr().err.rstrip().endswith('0:30 to go')
