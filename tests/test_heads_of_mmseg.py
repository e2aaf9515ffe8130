"""Heads made of mmseg's: their features are those of mmseg's head, and each learns two tasks on a fitting backbone."""
import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from tiny import MIT, RESNET, SWIN, network_run

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.prediction import Predictor
from ssul_mmseg.work_dir.weights import load_state

FOUR = dict(in_index=[0, 1, 2, 3], channels=8, norm_cfg=dict(type='BN'))
LAST = dict(in_channels=32, in_index=3, channels=8, norm_cfg=dict(type='BN'))
# Name of mmseg's head, the backbone below it, and its arguments.
HEADS = {
    'ASPPHead': (RESNET, dict(LAST, dilations=(1, 2))),
    'UPerHead': (SWIN, dict(FOUR, in_channels=[8, 16, 32, 64], pool_scales=(1, 2))),
    'SegformerHead': (MIT, dict(FOUR, in_channels=[4, 8, 16, 32])),
    'DepthwiseSeparableASPPHead': (RESNET, dict(LAST, dilations=(1, 2), c1_in_channels=4, c1_channels=4)),
    'PSPHead': (RESNET, dict(LAST, pool_scales=(1, 2))),
    'FCNHead': (RESNET, dict(LAST, num_convs=1)),
}


def network(name, **head):
    backbone, arguments = HEADS[name]
    if name == 'ASPPHead':
        head['projection'] = 3  # mmseg's; DeepLab-v3's is 1
    return dict(backbone=backbone, decode_head=dict(type=f'Incremental{name}', **arguments, **head))


def plain_head(name, head):
    """mmseg's head with the weights of ``head``: its own layers', and all classifiers' filters as one convolution."""
    plain = MODELS.build(dict(type=name, num_classes=head.out_channels, **HEADS[name][1])).double()
    own = {key: value for key, value in head.state_dict().items() if not key.startswith('classifiers.')}
    filters = {
        f'conv_seg.{kind}': torch.cat([getattr(head.classifiers[part][-1], kind) for part in head.names])
        for kind in ('weight', 'bias')}
    plain.load_state_dict({**own, **filters})
    return plain


@pytest.mark.parametrize('name', HEADS)
def test_features_are_those_of_mmsegs_head_up_to_its_classifier(name):
    torch.manual_seed(0)
    model = MODELS.build(dict(type='SSUL', **network(name, classes_per_task=[3, 2], dropout_ratio=.5))).double()
    head = model.decode_head
    for classifier in head.classifiers.values():
        torch.nn.init.normal_(classifier[-1].weight)
    maps = model.extract_feat(torch.randn(2, 3, 64, 64).double())
    for training in (True, False):
        plain = plain_head(name, head).train(training)
        plain.dropout = None
        head.train(training)
        features = head.features(maps)
        torch.testing.assert_close(head.classify(features), plain(maps))
    # Dropout is in neither: the forward pass of a head in training drops features, in evaluation none.
    torch.testing.assert_close(head(maps), plain(maps))
    assert not torch.allclose(head.train()(maps), head.eval()(maps))
    assert features.shape[1] == 8 and features.requires_grad


@pytest.mark.parametrize('name', HEADS)
def test_all_layers_of_a_head_but_its_classifiers_are_trunk(name):
    model = MODELS.build(dict(type='SSUL', **network(name, classes_per_task=[3, 2])))
    head = model.decode_head
    trunk = {parameter for module in head.trunk_modules() for parameter in module.parameters()}
    classifiers = set(head.classifiers.parameters())
    assert trunk and not trunk & classifiers and trunk | classifiers == set(head.parameters())
    assert model.trunk_frozen


@pytest.mark.parametrize('cache', [None, dict(views=2)], ids=['no cache', 'cache'])
@pytest.mark.parametrize('name', HEADS)
def test_two_tasks_with_the_trunk_frozen_bit_by_bit(tmp_path, name, cache):
    cfg = network_run(tmp_path, network(name), **{
        'feature_cache': cache, 'train_cfg.max_epochs': 2})
    document = run_scenario(cfg)
    assert [len(task['classes']) for task in document['tasks']] == [19, 1]
    base, later = (load_state(tmp_path / f'work/task_{task}/weights.pth')['state_dict'] for task in (0, 1))
    changed = {key for key in base if not torch.equal(base[key], later[key])}
    assert changed == {f'decode_head.classifiers.{classifier}.0.{kind}' for classifier in ('background', 'unknown')
                       for kind in ('weight', 'bias')}
    new = {key for key in later if key not in base}
    assert new == {f'decode_head.classifiers.task_1.0.{kind}' for kind in ('weight', 'bias')}
    found = Predictor(cfg, 1).predict(tmp_path / 'voc/JPEGImages/2007_000000.jpg')
    assert found.labels.shape == (24, 32) and found.labels.max() <= 20 and len(found.classes) == 21


@pytest.mark.parametrize('name', ['ASPPHead', 'DepthwiseSeparableASPPHead', 'FCNHead'])
def test_with_skip_classifiers_see_the_normalised_map_beside_the_features(name):
    torch.manual_seed(0)
    model = MODELS.build(dict(type='SSUL', **network(name, classes_per_task=[3, 2], skip=True))).eval()
    head = model.decode_head
    head.skip_norm.running_mean.normal_()
    head.skip_norm.running_var.uniform_(.5, 2)
    maps = model.extract_feat(torch.randn(2, 3, 64, 64))
    features = head.features(maps)
    assert features.shape[1] == head.feature_channels == 8 + 32
    head.skip = False
    torch.testing.assert_close(features[:, :8], head.features(maps))
    norm, shape = head.skip_norm, (1, -1, 1, 1)
    expected = (maps[3] - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
    expected = F.interpolate(expected, features.shape[2:], mode='bilinear', align_corners=False)
    torch.testing.assert_close(features[:, 8:], expected)
    assert all(classifier[-1].in_channels == 40 for classifier in head.classifiers.values())


WAYS = {
    'trained': dict(model_type='SSUL'),
    'solved': {'model_type': 'SSUL', 'model.draws': 64, 'incremental.solver': dict(type='Newton')},
    'analytic': dict(model_type='Analytic'),
}


@pytest.mark.parametrize('way', WAYS)
def test_two_tasks_with_skip(tmp_path, way):
    options = dict(WAYS[way])
    cfg = network_run(tmp_path, network('ASPPHead', skip=True), **{
        'model.type': options.pop('model_type'), 'train_cfg.max_epochs': 2, **options})
    run_scenario(cfg)
    base, later = (load_state(tmp_path / f'work/task_{task}/weights.pth')['state_dict'] for task in (0, 1))
    trunk = {key for key in base if 'classifiers' not in key}
    assert 'decode_head.skip_norm.running_mean' in trunk
    assert base['decode_head.skip_norm.running_mean'].abs().sum() > 0
    assert all(torch.equal(base[key], later[key]) for key in trunk)
    # The filters of the new class look at the backbone's map too.
    new = later['decode_head.classifiers.task_1.0.weight']
    assert new.shape[1] >= 40 and (new[:, 8:40] != 0).all()


def test_skip_of_a_head_that_sees_several_maps_is_refused():
    with pytest.raises(InputError, match=r'decode_head\.skip is set, but IncrementalUPerHead sees several maps'):
        MODELS.build(dict(type='SSUL', **network('UPerHead', classes_per_task=[3], skip=True)))
