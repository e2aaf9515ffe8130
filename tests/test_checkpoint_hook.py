from types import SimpleNamespace

import pytest
from tiny import tiny_model

from ssul_mmseg.engine.checkpoint_hook import CheckpointResumeHook
from ssul_mmseg.errors import InputError
from ssul_mmseg.work_dir.weights import load_state


@pytest.mark.parametrize(('counts', 'interval', 'saved'), [
    (1, 3, [3, 6, 9, 12]), (2, 3, [4, 6, 10, 12]), (4, 3, [4, 8, 12]), (16, 3, []), (16, 20, [])])
def test_an_interval_that_cuts_an_update_in_two_waits_for_its_second_half(counts, interval, saved, tmp_path):
    found = []
    runner = SimpleNamespace(
        work_dir=str(tmp_path), model=tiny_model([2]), max_iters=14, param_schedulers=[], train_dataloader=[0],
        iter=0,
        optim_wrapper=SimpleNamespace(_accumulative_counts=counts, state_dict=dict))
    hook = CheckpointResumeHook(interval, by_epoch=False)
    hook._origin = {}
    for done in range(1, 15):
        hook._save(runner, done)
        path = tmp_path / 'checkpoint.pth'
        if path.exists() and load_state(path)['iter'] == done:
            found.append(done)
    assert found == saved


@pytest.mark.parametrize('interval', [0, -1, '5', 2.5, None, True])
def test_interval_must_be_a_number_of_epochs_or_iterations(interval):
    with pytest.raises(InputError, match=r'checkpoint\.interval is'):
        CheckpointResumeHook(interval=interval)
