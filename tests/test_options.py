import pytest
from tiny import ROOT

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
    ('test_dataloader.dataset.pipeline.2.size', None),
    ('train_dataloader.num_workers', 0), ('model.backbone.init_cfg', None), ('test_dataloader.batch_size', 1),
    ('train_dataloader.dataset.dataset.data_root', 'x'), ('checkpoint.interval', 2),
])
def test_valid_options_are_applied(key, value):
    cfg = read_config(CONFIG, {key: value})
    found = cfg
    for part in key.split('.'):
        found = found[int(part)] if part.isdigit() else found[part]
    assert found == value


@pytest.mark.parametrize(('key', 'near'), [
    ('model.taw', 'model.tau'), ('modl.tau', 'model'), ('memory.sise', 'memory.size'),
    ('scenario.nam', 'scenario.name'), ('train_dataloader.batchsize', 'train_dataloader.batch_size'),
    ('optim_wrapper.optimizer.momentun', 'momentum'), ('train_dataloader.dataset.pipeline.9.scale', 'known: 0'),
    ('feature_cache.view', 'feature_cache.views'),
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


def test_a_group_is_no_value():
    with pytest.raises(InputError, match=r'memory is a group of values.*memory\.labels='):
        read_config(CONFIG, {'memory': 'dict(size=5)'})


def test_wrong_configs(tmp_path):
    with pytest.raises(InputError, match=r'did you mean .*voc_15-1_m\.py'):
        read_config(CONFIG.replace('15-1_m', '15-1m'))
    (tmp_path / 'broken.py').write_text('model = dict(')
    with pytest.raises(InputError, match=r'broken\.py cannot be read'):
        read_config(str(tmp_path / 'broken.py'))
    (tmp_path / 'other.py').write_text('model = dict(type="EncoderDecoder")')
    with pytest.raises(InputError, match='scenario is missing'):
        read_config(str(tmp_path / 'other.py'))
