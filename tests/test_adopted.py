"""What a plain network has learned is taken over, or refused in a sentence."""
import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from test_heads_of_mmseg import HEADS, network

from ssul_mmseg.errors import InputError
from ssul_mmseg.models.adopted import (
    build_plain,
    check_adoptable,
    difference,
    load_trunk,
    normalise_skip,
    set_filters,
    split_filters,
    widen_filters,
)

PREPROCESSOR = dict(type='SegDataPreProcessor', mean=[120.] * 3, std=[60.] * 3, bgr_to_rgb=True)


def plain_config(name, num_classes=4, **backbone):
    below, arguments = HEADS[name]
    return dict(type='EncoderDecoder', data_preprocessor=PREPROCESSOR, backbone=dict(below, **backbone),
                decode_head=dict(type=name, num_classes=num_classes, **arguments), test_cfg=dict(mode='whole'))


def both(name='ASPPHead', num_classes=4, **head):
    """A plain network and one that may take it over."""
    torch.manual_seed(0)
    plain = MODELS.build(ConfigDict(plain_config(name, num_classes))).eval()
    torch.nn.init.normal_(plain.decode_head.conv_seg.weight)
    config = dict(type='SSUL', data_preprocessor=PREPROCESSOR, **network(name))
    config['decode_head'] = {**config['decode_head'], 'classes_per_task': [3], **head}
    return plain, MODELS.build(config).eval()


@pytest.mark.parametrize('name', HEADS)
def test_the_trunk_and_the_filters_are_those_of_the_plain_network(name):
    plain, model = both(name)
    trunk, weight, bias = split_filters(plain.state_dict(), 'a.pth')
    load_trunk(model, trunk, 'a.pth', 'b.py')
    set_filters(model, torch.cat([weight, weight[:1]]), torch.cat([bias, bias[:1]]))
    assert difference(model, plain, weight, bias) is None
    images = torch.randn(1, 3, 64, 64).double()
    with torch.no_grad():
        found = model.double().decode_head.classify(model.trunk(images))
        torch.testing.assert_close(found[:, :-1], plain.double()(images))
        torch.testing.assert_close(found[:, -1], found[:, 0])
    model, plain = model.float(), plain.float()
    rebuilt = build_plain(plain_config(name), plain.state_dict())
    assert difference(model, rebuilt, weight, bias) is None


def test_filters_see_the_features_as_before_beside_the_normalised_map_of_the_backbone():
    plain, model = both(skip=True)
    trunk, weight, bias = split_filters(plain.state_dict(), 'a.pth')
    load_trunk(model, trunk, 'a.pth', 'b.py')
    wide = widen_filters(model, weight)
    assert wide.shape[1] == model.decode_head.feature_channels and not wide[:, weight.shape[1]:].any()
    assert difference(model, plain, wide, bias) is None
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        features = [image.flatten(1).T for image in model.trunk(images)]
        expected = [image.flatten(1).T for image in plain.extract_feat(images)[-1]]
        torch.testing.assert_close(torch.cat(features)[:, model.decode_head.channels:], torch.cat(expected),
                                   atol=1e-4, rtol=1e-4)
        later = normalise_skip(model, features)
        expected = [image.flatten(1).T for image in model.trunk(images)]
        torch.testing.assert_close(torch.cat(later), torch.cat(expected), atol=1e-4, rtol=1e-4)
    beside = torch.cat(later)[:, model.decode_head.channels:]
    torch.testing.assert_close(beside.mean(0), torch.zeros(beside.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat(later)[:, :model.decode_head.channels],
                               torch.cat(features)[:, :model.decode_head.channels])
    assert difference(model, plain, wide, bias) is None


@pytest.mark.parametrize(('change', 'message'), [
    (dict(strides=(1, 2, 1, 1)), 'other logits'), (dict(dilations=(1, 1, 1, 1)), 'other logits')])
def test_values_that_no_shape_shows_are_found(change, message):
    plain, model = both('FCNHead')
    trunk, weight, bias = split_filters(plain.state_dict(), 'a.pth')
    load_trunk(model, trunk, 'a.pth', 'b.py')
    other = build_plain(plain_config('FCNHead', **change), plain.state_dict())
    assert message in difference(model, other, weight, bias)


def test_another_normalisation_is_found():
    plain, model = both('FCNHead')
    trunk, weight, bias = split_filters(plain.state_dict(), 'a.pth')
    load_trunk(model, trunk, 'a.pth', 'b.py')
    for key, value in (('mean', [1.] * 3), ('std', [1.] * 3), ('bgr_to_rgb', False)):
        config = dict(plain_config('FCNHead'), data_preprocessor=dict(PREPROCESSOR, **{key: value}))
        assert key in difference(model, build_plain(config, plain.state_dict()), weight, bias)


def test_a_projection_of_another_size_is_named():
    plain, model = both(projection=1)
    with pytest.raises(InputError, match=r'set model\.decode_head\.projection=3'):
        load_trunk(model, split_filters(plain.state_dict(), 'a.pth')[0], 'a.pth', 'b.py')


@pytest.mark.parametrize('change', ['missing', 'more', 'shape'])
def test_a_trunk_that_does_not_fit_is_refused(change):
    plain, model = both()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trunk = split_filters(plain.state_dict(), 'a.pth')[0]
    key = 'backbone.layer1.0.conv1.weight'
    if change == 'missing':
        del trunk[key]
    elif change == 'more':
        trunk['backbone.more'] = torch.zeros(1)
    else:
        trunk[key] = trunk[key][:1]
    with pytest.raises(InputError, match=r'a\.pth does not fit the network of b\.py: backbone\.'):
        load_trunk(model, trunk, 'a.pth', 'b.py')
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize('shape', [None, (1, 8, 1, 1), (3, 8, 3, 3)])
def test_a_head_without_filters_is_refused(shape):
    state = {} if shape is None else {'decode_head.conv_seg.weight': torch.zeros(shape),
                                      'decode_head.conv_seg.bias': torch.zeros(shape[0])}
    with pytest.raises(InputError, match=r'the head of a\.pth cannot be adopted'):
        split_filters(state, 'a.pth')


@pytest.mark.parametrize(('head', 'message'), [
    (dict(classifier='conv'), 'set it to linear'), (dict(loss_decode=dict(type='SoftmaxCELoss')), 'trains a softmax')])
def test_a_network_that_cannot_take_over_is_refused(head, message):
    check_adoptable(both()[1], has_images=False)
    with pytest.raises(InputError, match=message):
        check_adoptable(both(**head)[1], has_images=True)
