import pytest
from tiny import ROOT

from ssul_mmseg.errors import InputError
from ssul_mmseg.options import read_config

CONFIG = str(ROOT / 'configs/ssul/voc_15-1_m.py')


@pytest.mark.parametrize(('key', 'near'), [
    ('model.taw', 'model.tau'), ('modl.tau', 'model'), ('memory.sise', 'memory.size'),
    ('scenario.nam', 'scenario.name'), ('train_dataloader.batchsize', 'train_dataloader.batch_size'),
    ('optim_wrapper.optimizer.momentun', 'momentum'), ('train_dataloader.dataset.pipeline.9.scale', 'known: 0'),
    ('feature_cache.view', 'feature_cache.views'), ('model.test_cfg.strides', 'model.test_cfg.stride'),
])
def test_a_typo_is_refused_with_the_nearest_name(key, near):
    with pytest.raises(InputError, match=f'option {key}') as error:
        read_config(CONFIG, {key: 1})
    assert near in str(error.value), str(error.value)


@pytest.mark.parametrize('options', [
    {'train_cfg': dict(max_epoch=3)}, {'incremental': dict(train_cfg=dict(max_epoch=3))},
    {'incremental.train_cfg.max_epoch': 3},
], ids=str)
def test_a_typo_inside_a_group_is_refused(options):
    with pytest.raises(InputError, match=r'did you mean train_cfg\.max_epochs'):
        read_config(CONFIG, options)


@pytest.mark.parametrize(('key', 'hint'), [
    ('max_epochs', 'train_cfg.max_epochs or incremental.train_cfg.max_epochs from task 1 on?'),
    ('lr', 'optim_wrapper.optimizer.lr or incremental.optim_wrapper.optimizer.lr from task 1 on?'),
    ('tau', 'model.tau?'), ('views', 'feature_cache.views?'), ('model.classifier', 'model.decode_head.classifier?'),
    ('dataset.data_root', '.dataset.data_root or '),
])
def test_a_key_of_another_place_is_refused_with_that_place(key, hint):
    with pytest.raises(InputError, match=f'option {key}: there is no') as error:
        read_config(CONFIG, {key: 1})
    assert 'did you mean ' in str(error.value) and hint in str(error.value), str(error.value)


def test_a_variable_of_the_config_file_is_refused_with_the_keys_made_of_it():
    small = CONFIG.replace('voc_15-1_m', 'shapes_4-1')
    with pytest.raises(InputError, match=r'norm_cfg\.type: norm_cfg is a variable of the config file.*set '
                                         r'model\.backbone\.norm_cfg\.type and model\.decode_head\.norm_cfg\.type$'):
        read_config(small, {'norm_cfg.type': 'BN'})
    with pytest.raises(InputError, match=r'custom_imports is a variable.*set the values that the file makes of it'):
        read_config(small, {'custom_imports.imports': []})


@pytest.mark.parametrize('key', ['compile', 'sync_bn', 'model_wrapper_cfg', 'visualizer', 'log_level', 'load_from'])
def test_what_the_runner_reads_can_be_set(key):
    assert read_config(CONFIG, {key: 'x'})[key] == 'x'


@pytest.mark.parametrize(('key', 'instead'), [
    ('train_dataloader.dataset.setting', 'set scenario.setting'), ('seed', 'set randomness.seed, or --seed'),
    ('train_dataloader.dataset.seed', 'set randomness.seed'), ('train_dataloader.batch_sampler.views', 'feature_cache'),
    ('train_dataloader.dataset.pipeline.2.saliency', 'set saliency'), ('test_evaluator.task', 'set --tasks'),
    ('model.decode_head.classes_per_task', 'set scenario.name'), ('test_dataloader.dataset.test_mode', 'remove it'),
    ('train_dataloader.batch_sampler.batch_size', 'set train_dataloader.batch_size'),
    ('train_dataloader.batch_sampler.sampler', 'remove it'),
    ('incremental.scenario.name', "set the key without 'incremental.'"), ('launcher', 'set --launcher'),
    ('incremental.memory', "set the key without 'incremental.'"), ('incremental.randomness.seed', 'without'),
    ('incremental.train_dataloader.dataset.setting', 'set scenario.setting'),
    ('incremental.launcher', 'set --launcher'),
    ('incremental.train_dataloader.dataset.pipeline.2.saliency', 'set saliency'),
    ('incremental.model.decode_head.classes_per_task', 'set scenario.name'),
])
def test_a_key_without_effect_is_refused_with_the_one_to_set(key, instead, tmp_path):
    value = dict(size=3) if key == 'incremental.memory' else 'disjoint'
    with pytest.raises(InputError, match=rf'{key.removesuffix(".name").removesuffix(".seed")}.* is decided') as error:
        read_config(CONFIG, {key: value})
    assert instead in str(error.value)


def test_a_config_file_is_checked_as_its_options_are(tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text(f"_base_ = '{CONFIG}'\ntrain_dataloader = dict(dataset=dict(setting='disjoint'))\n")
    with pytest.raises(InputError, match=r'train_dataloader\.dataset\.setting is decided .*scenario\.setting'):
        read_config(str(config))
