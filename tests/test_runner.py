"""A task's runner: what reaches the screen, and what is wrong with a config."""
import copy
import logging

import pytest
import torch
from mmengine.config import Config
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine.config_faults import config_faults
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.runner import FormattedOnce, task_runner
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError


def build(cfg, task=0):
    """The runner of a task of a config."""
    return task_runner(Run(cfg), task_config(cfg, task), task)


def test_the_console_shows_warnings_alone_and_the_file_all(tmp_path):
    runner = build(tiny_config(voc_tree(tmp_path / 'voc'), tmp_path / 'run'))
    levels = {isinstance(handler, logging.FileHandler): handler.level for handler in runner.logger.handlers}
    assert levels == {False: logging.WARNING, True: logging.INFO}
    assert runner.optim_wrapper.optimizer.param_groups[0]['lr'] == .01  # built before training


def test_tasks_of_two_runs_that_start_in_the_same_second_have_logs_of_their_own(tmp_path, monkeypatch):
    root = voc_tree(tmp_path / 'voc')
    monkeypatch.setattr('mmengine.runner.runner.time.strftime', lambda *_: '20261126_120000')
    for name in ('first', 'second'):
        build(tiny_config(root, tmp_path / name)).logger.info(f'of the {name} run')
    for name in ('first', 'second'):
        log, = (tmp_path / name / 'task_0').rglob('*.log')
        said = [other for other in ('first', 'second') if f'of the {other} run' in log.read_text()]
        assert said == [name]


def test_a_config_is_formatted_once_a_task(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(Config, 'pretty_text', property(lambda cfg: made.append(1) or str(cfg.to_dict())))
    cfg = tiny_config(voc_tree(tmp_path / 'voc', 20), tmp_path / 'run', **{'scenario.name': '19-1'})
    run_scenario(cfg, [0])
    assert made == [1]
    assert "'scenario': {'num_classes': 20" in (tmp_path / 'run/task_0/voc_15-1.py').read_text()


def test_a_config_that_changes_is_formatted_anew():
    cfg = FormattedOnce.of(Config(dict(a=dict(b=1))))
    first = cfg.pretty_text
    assert cfg.pretty_text is first and copy.deepcopy(cfg).pretty_text == first == Config(dict(a=dict(b=1))).pretty_text
    cfg.a.b = 2
    assert cfg.pretty_text == first.replace('1', '2') and list(cfg.to_dict()) == ['a']


def test_frozen_tensors_are_no_lines_on_the_console(tmp_path, capfd):
    options = {'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult': .1, 'train_cfg.max_epochs': 1}
    run_scenario(tiny_config(voc_tree(tmp_path / 'voc'), tmp_path / 'run', **{'scenario.name': '19-1', **options}))
    assert 'requires_grad' not in ''.join(capfd.readouterr())
    assert any('skipped since its requires_grad' in log.read_text() for log in (tmp_path / 'run/task_1').rglob('*.log'))


def test_compiling_the_backbone_changes_no_number(tmp_path):
    root = voc_tree(tmp_path / 'voc')
    weights = {}
    for name, options in (('eager', False), ('compiled', dict(backend='aot_eager'))):
        cfg = tiny_config(root, tmp_path / name)
        cfg.compile = options
        runner = build(cfg)
        runner.train()
        assert (runner.model.backbone._compiled_call_impl is not None) == bool(options)
        weights[name] = runner.model.state_dict()
    assert all(torch.allclose(value, weights['compiled'][key], atol=1e-5) for key, value in weights['eager'].items())


@pytest.mark.parametrize('options', ['yes', dict(backend='none'), dict(speed=2), dict(mode='fast')])
def test_what_cannot_compile_is_reported(tmp_path, options):
    cfg = tiny_config(voc_tree(tmp_path / 'voc'), tmp_path / 'run')
    cfg.compile = options
    with pytest.raises(InputError, match=r'compile is .*; set it to True, False'):
        build(cfg).train()


@pytest.mark.parametrize('key, value, words', [
    ('optim_wrapper.type', 'OptimWraper', 'OptimWraper'), ('model.backbone.depth', 19, 'depth'),
    ('param_scheduler.0.type', 'Poly', 'Poly'),
])
def test_what_a_config_names_and_nobody_knows_is_reported_before_training(tmp_path, key, value, words):
    cfg = tiny_config(voc_tree(tmp_path / 'voc'), tmp_path / 'run')
    cfg.merge_from_dict({key: value})
    with pytest.raises(InputError, match=rf'the config .*voc_15-1\.py cannot be used .*{words}'):
        build(cfg)
    assert not list((tmp_path / 'run').glob('task_0/*.pth'))


def test_errors_of_machine_and_data_are_not_those_of_the_config():
    for error in (InputError('a'), OSError(28, 'full'), MemoryError()):
        with pytest.raises(type(error)), config_faults(None):
            raise error


@pytest.mark.parametrize('norm', ['BN', 'SyncBN'])
def test_a_batch_of_one_image_and_batch_normalisation_are_reported_by_key_and_layer(tmp_path, norm):
    options = {'train_dataloader.batch_size': 1, 'model.decode_head.norm_cfg.type': norm}
    cfg = tiny_config(voc_tree(tmp_path / 'voc'), tmp_path / 'run', **options)
    with pytest.raises(InputError, match=r'task_0 failed: decode_head\.image_pool\S+, a BatchNorm layer, .* 1 image '
                                         r'for each process; set train_dataloader\.batch_size to 2 or more$'):
        run_scenario(cfg)


@pytest.mark.parametrize('options', [
    {'train_dataloader.batch_size': 1, 'model.decode_head.norm_cfg.type': 'GN',
     'model.decode_head.norm_cfg.num_groups': 4},
    {'train_dataloader.batch_size': 2, 'incremental.train_dataloader.batch_size': 1},
], ids=['another normalisation', 'a frozen trunk'])
def test_a_batch_of_one_image_is_refused_only_where_statistics_are_learned(tmp_path, options):
    options = {'scenario.name': '19-1', 'train_cfg.max_epochs': 1, **options}
    cfg = tiny_config(voc_tree(tmp_path / 'voc'), tmp_path / 'run', **options)
    assert len(run_scenario(cfg)['tasks']) == 2
