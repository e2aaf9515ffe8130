import inspect

import pytest
from mmseg.registry import MODELS
from tiny import METHODS, ROOT, tiny_config, tiny_options, voc_tree

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.options import read_config

CONFIG = str(ROOT / 'configs/ssul/voc_15-1_m.py')


@pytest.mark.parametrize(('key', 'value'), [
    ('model.tau', .5), ('model.freeze', False), ('model.decode_head.classifier', 'conv'),
    ('memory.selection', 'random'), ('memory.labels', 'stored'),
    ('scenario.order', list(range(1, 21))), ('scenario.setting', 'disjoint'),
    ('train_dataloader.dataset.pipeline.3.scale', (1, 1)), ('optim_wrapper.optimizer.nesterov', True),
    ('incremental', dict(train_cfg=dict(max_epochs=3))),
    ('incremental.train_cfg.max_epochs', 3), ('incremental.optim_wrapper.optimizer.lr', .05),
    ('saliency', 'ground_truth'), ('feature_cache', dict(views=2)), ('feature_cache', None),
    ('train_dataloader.batch_sampler.half_pass', True), ('train_dataloader.pin_memory', True),
    ('test_size', None), ('crop_size', [32, 32]),
    ('train_dataloader.num_workers', 0), ('model.backbone.init_cfg', None), ('test_dataloader.batch_size', 1),
    ('train_dataloader.dataset.dataset.data_root', 'x'), ('data_root', 'x'), ('checkpoint.interval', 2),
    ('optim_wrapper.clip_grad.max_norm', 1.), ('optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult', .1),
    ('incremental.optim_wrapper.paramwise_cfg.custom_keys.background.lr_mult', 1e-4),
    ('model.test_cfg', dict(mode='slide', crop_size=[9, 9], stride=[6, 6])), ('model.test_cfg.mode', 'slide'),
    ('randomness.deterministic', True), ('log_processor.window_size', 5),
])
def test_valid_options_are_applied(key, value):
    cfg = read_config(CONFIG, {key: value})
    found = cfg
    for part in key.split('.'):
        found = found[int(part)] if part.isdigit() else found[part]
    assert found == value


@pytest.mark.parametrize('config', METHODS)
def test_every_option_of_a_method_refuses_typos_and_wrong_values(tmp_path, config):
    path = f'configs/{config}.py'
    method = MODELS.get(tiny_config(tmp_path, tmp_path, path).model.type)
    parameters = inspect.signature(method.__init__).parameters.values()
    for name in [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]:
        with pytest.raises(InputError, match=f'option model.{name}_: there is no .*did you mean'):
            tiny_config(tmp_path, tmp_path, path, **{f'model.{name}_': 1})
        with pytest.raises(InputError, match=rf'model\.{name} is'):
            cfg = tiny_config(tmp_path, tmp_path, path, **{f'model.{name}': 'wrong'})
            MODELS.build(task_config(cfg, 0).model)


@pytest.mark.parametrize('options, words', [
    ({'train_dataloader.batch_sampler.type': ''}, r"batch_sampler\.type is '', a class that nothing has registered"),
    ({'model.type': 'SUSL'}, r"model\.type is 'SUSL', a class that nothing has registered; did you mean SSUL\?"),
    ({'optim_wrapper.optimizer.type': 'SDG'}, r'did you mean SGD\?'),
    ({'model.backbone': dict(type='ResNte')}, r'model\.backbone\.type is .*; did you mean ResNet\?'),
    ({'model.type': 'MyOwn'}, 'name the module that registers it in custom_imports')], ids=str)
def test_a_class_that_nobody_knows_is_refused_with_the_nearest_name(options, words):
    with pytest.raises(InputError, match=words):
        read_config(CONFIG, options)


@pytest.mark.parametrize('key', ['memory', 'feature_cache'])
def test_to_do_without_a_group_is_none(key):
    with pytest.raises(InputError, match=f'to do without it, set {key}=None'):
        read_config(CONFIG, {key: False})
    assert read_config(CONFIG, {key: None})[key] is None


@pytest.mark.parametrize(('key', 'values', 'kind'), [
    ('train_dataloader.batch_size', ['a', 0, -4, 16., True], 'a whole number of at least 1'),
    ('test_dataloader.batch_size', ['a', 0, 2.5], 'a whole number of at least 1'),
    ('train_dataloader.num_workers', [-1, None, .5], 'a whole number of at least 0'),
    ('train_cfg.max_epochs', [0, 'ten', 1.5], 'a whole number of at least 1'),
    ('incremental.train_cfg.max_epochs', [0, 'ten', 1.5], 'a whole number of at least 1'),
    ('optim_wrapper.optimizer.lr', ['1e-3x', -.1, float('nan'), float('inf'), None], 'a number of at least 0'),
    ('incremental.optim_wrapper.optimizer.lr', ['fast', -1], 'a number of at least 0'),
    ('optim_wrapper.optimizer.momentum', ['high', -1], 'a number of at least 0'),
    ('method', [5, None, ''], 'a name for tables'), ('dataset_name', [5, None], 'a name for tables'),
])
def test_a_value_of_another_kind_is_refused_with_its_key(key, values, kind):
    for value in values:
        with pytest.raises(InputError, match=f'^{key} is {value!r}; it is {kind}'):
            read_config(CONFIG, {key: value})


@pytest.mark.parametrize('key', ['model.freeze', 'model.decode_head.unknown', 'model.channels_last',
                                 'train_dataloader.batch_sampler.half_pass'])
def test_true_or_false_is_no_word(key):
    with pytest.raises(InputError, match=f"{key} is 'no'; it is True or False"):
        read_config(CONFIG, {key: 'no'})
    read_config(CONFIG, {key: False})


def test_a_group_is_no_value():
    with pytest.raises(InputError, match=r'memory is a group of values.*memory\.labels='):
        read_config(CONFIG, {'memory': 'dict(size=5)'})


@pytest.mark.parametrize(('key', 'value', 'kind'), [
    ('scenario', None, 'group'),
    ('model.decode_head', None, 'group'),
    ('train_dataloader.dataset.dataset', None, 'group'),
    ('test_dataloader.dataset.pipeline', 'map', 'list of groups'),
    ('test_dataloader.dataset.pipeline', None, 'list of groups'),
    ('test_dataloader.dataset.pipeline', [], 'list of groups'),
    ('model.backbone', None, 'group'),
    ('incremental.model.backbone', None, 'group'),
    ('test_dataloader.dataset.pipeline', ['LoadImage'], 'list of groups'),
    ('param_scheduler', 'poly', 'list of groups'),
])
def test_what_a_run_needs_stays_a_group(key, value, kind):
    with pytest.raises(InputError, match=f'{key} is a {kind} of values'):
        read_config(CONFIG, {key: value})


def test_what_later_tasks_read_may_be_left_out(tmp_path):
    cfg = read_config(CONFIG, {'incremental': None, 'custom_hooks': None})
    cfg.work_dir = str(tmp_path)
    assert task_config(cfg, 1).custom_hooks


def test_a_list_of_groups_may_be_another_or_none():
    cfg = read_config(CONFIG, {'custom_hooks': [{'type': 'EMAHook'}], 'param_scheduler': []})
    assert (cfg.custom_hooks[0].type, cfg.param_scheduler) == ('EMAHook', [])
    assert read_config(CONFIG, {'param_scheduler': None}).param_scheduler is None
    assert len(read_config(CONFIG, {'param_scheduler': ({'type': 'PolyLR'}, )}).param_scheduler) == 1


def test_wrong_configs(tmp_path):
    with pytest.raises(InputError, match=r'did you mean .*voc_15-1_m\.py'):
        read_config(CONFIG.replace('15-1_m', '15-1m'))
    (tmp_path / 'broken.py').write_text('model = dict(')
    with pytest.raises(InputError, match=r'broken\.py cannot be read'):
        read_config(str(tmp_path / 'broken.py'))
    (tmp_path / 'other.py').write_text('model = dict(type="EncoderDecoder")')
    with pytest.raises(InputError, match='scenario is missing'):
        read_config(str(tmp_path / 'other.py'))


MMSEG = '''_base_ = ['{root}/configs/_base_/datasets/voc.py', 'mmseg::_base_/models/deeplabv3_r50-d8.py',
          '{root}/configs/_base_/schedules/voc.py', '{root}/configs/_base_/default_runtime.py']
method = 'SSUL'
scenario = dict(name='15-5')
model = dict(
    _delete_=True, type='SSUL', data_preprocessor={{{{_base_.model.data_preprocessor}}}},
    backbone={{{{_base_.model.backbone}}}},
    decode_head=dict(type='IncrementalASPPHead', in_channels=2048, channels=512, in_index=3,
                     dilations={{{{_base_.model.decode_head.dilations}}}}, norm_cfg={{{{_base_.norm_cfg}}}}))
'''


def test_a_config_may_begin_with_one_of_mmsegs(tmp_path):
    """mmseg comes from a distribution of another name than mmengine's table has."""
    root = voc_tree(tmp_path / 'voc', 24)
    (tmp_path / 'mine.py').write_text(MMSEG.format(root=ROOT))
    cfg = read_config(str(tmp_path / 'mine.py'), tiny_options(root))
    assert cfg.model.backbone.strides == (1, 2, 1, 1) and cfg.model.decode_head.dilations == (1, 12, 24, 36)
    cfg.work_dir = str(tmp_path / 'run')
    document = run_scenario(cfg)
    assert len(document['tasks']) == 2 and document['final']['new'] is not None
