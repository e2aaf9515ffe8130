"""The learning rate of every update of a run is that of the formula."""
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmseg.registry import PARAM_SCHEDULERS
from tiny import ROOT, tiny_config, voc_tree

from ssul_mmseg.engine.scenario_loop import run_scenario


class StoppedError(BaseException):
    """What stops a run, past every handler of errors."""


def poly(rate, updates):
    """lr_i = lr_0 (1 - i / T) ** 0.9 for i = 0 .. T - 1."""
    return [rate * (1 - i / updates) ** .9 for i in range(updates)]


@pytest.fixture
def rates(monkeypatch):
    """Learning rates of all parameter groups at every update, and the update before which a run stops."""
    step = torch.optim.SGD.step

    def recorded(optimizer, *args, **kwargs):
        if len(seen) == recorded.stop:
            raise StoppedError
        seen.append([group['lr'] for group in optimizer.param_groups])
        return step(optimizer, *args, **kwargs)
    seen, recorded.stop = [], None
    monkeypatch.setattr(torch.optim.SGD, 'step', recorded)
    return seen, recorded


@pytest.mark.parametrize('cache', [None, dict(views=2)], ids=str)
def test_every_update_has_the_rate_of_the_formula_also_after_a_resume(tmp_path, rates, cache):
    """Task 0: 5 batches x 3 epochs; task 1: a batch x 12 epochs and another rate by ``incremental``."""
    seen, recorded = rates
    options = {'scenario.name': '15-5', 'train_cfg.max_epochs': 3, 'feature_cache': cache, 'checkpoint.interval': 2,
               'checkpoint.by_epoch': False,
               'incremental': dict(train_cfg=dict(max_epochs=12), optim_wrapper=dict(optimizer=dict(lr=.03))),
               'optim_wrapper.paramwise_cfg': dict(custom_keys={'backbone': dict(lr_mult=.1)})}
    cfg = tiny_config(voc_tree(tmp_path / 'voc', 24), tmp_path / 'run', **options)
    before = 0
    for stop in (7, 15 + 9):
        recorded.stop = stop
        with pytest.raises(StoppedError):
            run_scenario(cfg, resume=before > 0)
        # What was done after the last checkpoint is done again.
        before = stop - 1
        del seen[before:]
    recorded.stop = None
    run_scenario(cfg, resume=True)
    expected = [poly(.01, 15), poly(.03, 12)]
    assert [rate[-1] for rate in seen] == pytest.approx(expected[0] + expected[1], rel=1e-9)
    # The frozen backbone is in no group of task 1.
    assert [rate[0] for rate in seen[:15]] == pytest.approx(poly(.001, 15), rel=1e-9)


def test_the_last_update_of_one_and_two_learns():
    weight = torch.nn.Parameter(torch.zeros(1))
    for updates, expected in ((1, [1]), (2, [1, .5 ** .9])):
        wrapper = OptimWrapper(torch.optim.SGD([weight], lr=1))
        schedule = PARAM_SCHEDULERS.build(dict(type='DeepLabPolyLR', optimizer=wrapper, power=.9, by_epoch=False,
                                               end=updates))
        found = []
        for _ in range(updates):
            found.append(wrapper.get_lr()['lr'][0])
            wrapper.step()
            schedule.step()
        assert found == pytest.approx(expected)


def test_after_a_warm_up_the_rest_of_the_iterations_count():
    """A schedule of two parts: the first iterations rise linearly, the rest falls to T."""
    wrapper = OptimWrapper(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1))
    common = dict(optimizer=wrapper, by_epoch=False)
    schedules = [
        PARAM_SCHEDULERS.build(dict(type='LinearLR', start_factor=.5, begin=0, end=3, **common)),
        PARAM_SCHEDULERS.build(dict(type='DeepLabPolyLR', power=.9, begin=3, end=11, **common))]
    found = []
    for _ in range(11):
        found.append(wrapper.get_lr()['lr'][0])
        wrapper.step()
        for schedule in schedules:
            schedule.step()
    assert found[3:] == pytest.approx(poly(1, 8))


def test_the_official_config_for_ade_warms_up_over_a_tenth_of_a_falling_rate():
    """lr_0 (1 - i / T) ** 0.9 times a factor that rises from 0.001 to 1, as the authors' WarmupPolyLR.

    Theirs reaches 1 at update T / 10, mmengine's LinearLR an update before it.
    """
    config = Config.fromfile(ROOT / 'configs/ssul/ade_100-5_m_official.py')
    epochs, batches = config.train_cfg.max_epochs, 2
    wrapper = OptimWrapper(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1))
    # As mmengine's runner builds them.
    schedules = [PARAM_SCHEDULERS.build({'end': epochs, **schedule, 'optimizer': wrapper, 'epoch_length': batches})
                 for schedule in config.param_scheduler]
    found, updates = [], epochs * batches
    for _ in range(updates):
        found.append(wrapper.get_lr()['lr'][0])
        wrapper.step()
        for schedule in schedules:
            schedule.step()
    expected = [rate * min(1, .001 + .999 * i / (updates / 10 - 1)) for i, rate in enumerate(poly(1, updates))]
    assert found == pytest.approx(expected)


def test_all_our_schedules_count_to_the_end():
    paths = list((ROOT / 'configs/_base_/schedules').glob('*.py'))
    assert len(paths) >= 4
    for path in paths:
        (schedule, ) = Config.fromfile(path).param_scheduler
        assert schedule == dict(type='DeepLabPolyLR', power=.9, eta_min=0, by_epoch=True, convert_to_iter_based=True)
