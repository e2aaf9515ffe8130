"""The benchmark's iterations are those of runs, for every method in configs/."""
from dataclasses import replace

import pytest
import torch
from speed.methods import (
    Iteration,
    build_iteration,
    is_solved,
    measure_methods,
    memory_ratio,
    method_configs,
    start_method,
)
from speed.report import SECTIONS
from speed.settings import LITE, TINY, Options
from tiny import METHODS, ROOT

from ssul_mmseg.errors import InputError

OPTIONS = Options(ROOT / 'configs', TINY, 'cpu')
CONFIGS = method_configs(OPTIONS)
TRAINED = [name for name, path in CONFIGS.items() if not is_solved(path)]
FROZEN = {'ipseg', 'ssul'}  # whose trunk stays as it is from task 1 on


def test_every_method_in_configs_is_measured_at_every_scale():
    folders = {method.partition('/')[0] for method in METHODS}
    assert len(folders) >= 10 and set(CONFIGS) == folders
    assert next(iter(CONFIGS)) == 'fine_tuning'
    assert set(method_configs(Options(ROOT / 'configs', LITE, 'cpu'))) == folders
    assert set(CONFIGS) - set(TRAINED) == {'analytic'}


def test_a_folder_without_methods_is_reported(tmp_path):
    with pytest.raises(InputError, match='checkout'):
        method_configs(Options(tmp_path, TINY, 'cpu'))


@pytest.mark.parametrize('name', TRAINED)
def test_an_iteration_updates_what_learns_and_nothing_else(name):
    iteration = start_method(OPTIONS, CONFIGS[name])
    model, steps = iteration.model, []
    # Shapes 4-1: four old classes and one new; joint training learns all eight at once.
    assert (model.decode_head.num_old, model.decode_head.num_seen) == ((0, 8) if name == 'joint' else (4, 5))
    before_step = model.before_step

    def counted():
        steps.append(1)
        before_step()

    model.before_step = counted
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    iteration()
    assert steps == [1]
    changed = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    learning = {key for key, value in model.named_parameters() if value.requires_grad}
    assert changed <= learning and len(changed) > .8 * len(learning)
    assert all(value.isfinite().all() for value in model.parameters())
    assert all(value.grad is None for value in model.parameters())  # as between two iterations of a run


def test_methods_have_of_the_old_task_what_a_run_gives_them():
    assert len(start_method(OPTIONS, CONFIGS['ewc']).model.held) > 20
    assert start_method(OPTIONS, CONFIGS['plop']).model.thresholds.shape == (5, )
    ssul = start_method(OPTIONS, CONFIGS['ssul'])
    with torch.no_grad():
        logits = ssul.model.old_model.logits(ssul.model.batch_of(ssul.inputs, ssul.labels))
    survivors = (logits[:, 1:5].amax((2, 3)).sigmoid() > ssul.model.tau).sum(1)
    assert survivors.tolist() == [3] * TINY.batch


def test_memory_is_that_of_an_iteration_with_momentum():
    iteration = build_iteration(OPTIONS, CONFIGS['fine_tuning'])
    assert isinstance(iteration, Iteration)
    state = iteration.wrapper.optimizer.state
    assert len(state) == len(list(iteration.model.parameters())) and all('momentum_buffer' in s for s in state.values())


def test_layers_with_learning_rates_of_their_own_do_not_fill_the_screen(capfd):
    lite = Options(ROOT / 'configs', replace(LITE, crop=33, batch=2), 'cpu')
    build_iteration(lite, method_configs(lite)['fine_tuning'])
    assert 'paramwise_options' not in ''.join(capfd.readouterr())


def test_memory_ratio_by_hand():
    assert memory_ratio(dict(fine_tuning=200, plop=300), 'plop') == 1.5
    assert memory_ratio(dict(fine_tuning=None, plop=None), 'plop') is None


def test_the_table_of_methods():
    result = measure_methods(OPTIONS)
    assert list(result['seconds']) == list(result['peak_memory_bytes']) == TRAINED and result['solved'] == ['analytic']
    assert set(TRAINED) - set(result['trunk_learns']) == FROZEN
    plain = result['seconds']['fine_tuning']['median']
    assert result['seconds_vs_fine_tuning']['plop'] == result['seconds']['plop']['median'] / plain
    peaks = result['peak_memory_bytes']
    assert all(peak > 0 for peak in peaks.values())
    assert result['peak_memory_vs_fine_tuning']['mib'] == peaks['mib'] / peaks['fine_tuning']
    judged = [each['what'].partition(':')[0] for each in result['targets']]
    assert judged == [name for name in TRAINED if name not in {'fine_tuning', *FROZEN}]
    assert all(each['most'] == 1.5 for each in result['targets'])
    text = '\n'.join(SECTIONS['methods'](result))
    assert all(f'| {name} ' in text for name in TRAINED) and 'Solved instead of trained, see `task`: analytic' in text
