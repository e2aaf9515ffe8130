"""A learned network of mmseg's own parts alone computes what the learned one computes."""
import pytest
import torch
from mmseg.models.backbones import ResNet
from mmseg.registry import MODELS
from test_heads_of_mmseg import HEADS, network

from ssul_mmseg.errors import InputError
from ssul_mmseg.models.heads import IncrementalFCNHead
from ssul_mmseg.models.stock import stock_network

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@MODELS.register_module()
class BackboneOfOnesOwn(ResNet):
    """A backbone that mmseg does not have."""


@MODELS.register_module()
class HeadWithMoreLayers(IncrementalFCNHead):
    """A head with a layer that mmseg's has not."""

    def __init__(self, **head):
        super().__init__(**head)
        self.more = torch.nn.Conv2d(self.channels, self.channels, 1)


def learned(name='ASPPHead', classes=(3, 2), **head):
    """A network with spread scores and statistics that are not the start's, and its config."""
    torch.manual_seed(0)
    config = dict(
        type='SSUL', weight_transfer='background', **network(name),
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[120.] * 3, std=[60.] * 3))
    config['decode_head'] = {**config['decode_head'], 'classes_per_task': classes, **head}
    model = MODELS.build(config)
    for key, value in model.state_dict().items():
        if key.endswith('running_var'):
            value.uniform_(.5, 2)
        elif key.endswith('running_mean'):
            value.normal_(std=.1)
    model.eval()
    with torch.no_grad():
        features = model.trunk(IMAGES).mean(dim=(0, 2, 3), keepdim=True)
        for part in model.decode_head.names:
            filters = model.decode_head.filters(part)
            torch.nn.init.normal_(filters.weight, std=3)
            # Around 0, so that no channel is the largest everywhere.
            filters.bias.zero_()
            filters.bias -= filters(features).flatten()
    return model, config


@torch.no_grad()
def logits_of_both(model, config, merge):
    found, stock = stock_network(model, config, merge)
    # In double precision: what differs is no rounding.
    model, stock, images = model.double(), stock.double(), IMAGES.double()
    return stock(images), model.decode_head.classify(model.trunk(images)), found


@pytest.mark.parametrize(('name', 'head'), [('ASPPHead', dict(projection=1)), *((name, {}) for name in HEADS)])
def test_the_logits_are_the_same_with_unknown_last(name, head):
    found, expected, config = logits_of_both(*learned(name, **head), merge=False)
    assert expected.shape[1] == 7
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert config['type'] == 'EncoderDecoder' and config['decode_head']['type'] == name


@pytest.mark.parametrize('name', HEADS)
def test_the_larger_of_unknown_and_background_is_background(name):
    model, config = learned(name)
    found, own, _ = logits_of_both(model, config, merge=True)
    background = torch.maximum(own[:, :1], own[:, -1:])
    # Each of the two wins somewhere, and each sign occurs: both halves of the ReLU are at work.
    assert 0 < (own[:, 0] > own[:, -1]).float().mean() < 1 and own[:, 1:-1].min() < 0 < own[:, 1:-1].max()
    torch.testing.assert_close(found, torch.cat([background, own[:, 1:-1]], dim=1), atol=1e-5, rtol=1e-5)


def test_without_an_unknown_channel_nothing_is_merged():
    found, expected, config = logits_of_both(*learned(unknown=False), merge=True)
    torch.testing.assert_close(found, expected)
    assert config['decode_head']['type'] == 'ASPPHead' and found.shape[1] == 6


def test_a_synchronised_batch_norm_and_pretrained_weights_are_not_asked_for():
    model, config = learned()
    config['backbone'] = dict(config['backbone'], norm_cfg=dict(type='SyncBN'),
                              init_cfg=dict(type='Pretrained', checkpoint='missing.pth'))
    found, _ = stock_network(model, config, False)
    assert found['backbone']['norm_cfg'] == dict(type='BN') and found['backbone']['init_cfg'] is None
    assert config['backbone']['norm_cfg'] == dict(type='SyncBN')  # the given config is as it was


@pytest.mark.parametrize('kind', ['conv', 'hybrid'])
def test_classifiers_that_are_no_filters_are_refused(kind):
    _, config = learned()
    if kind == 'hybrid':
        config.update(type='Analytic')
        del config['weight_transfer']
    config['decode_head'] = dict(config['decode_head'], classifier=kind)
    with pytest.raises(InputError, match=f"'{kind}'.*--to onnx"):
        stock_network(MODELS.build(config), config, True)


def test_parts_that_mmseg_lacks_are_refused():
    model, config = learned()
    config['backbone'] = dict(config['backbone'], type='BackboneOfOnesOwn')
    with pytest.raises(InputError, match=r'backbone is a BackboneOfOnesOwn of test_stock.*--to onnx'):
        stock_network(model, config, False)


def test_a_head_with_layers_of_its_own_is_refused():
    _, config = learned('FCNHead')
    config['decode_head'] = dict(config['decode_head'], type='HeadWithMoreLayers')
    with pytest.raises(InputError, match=r"HeadWithMoreLayers has other layers than mmseg's FCNHead.*more"):
        stock_network(MODELS.build(config), config, False)


def test_a_head_with_skip_is_refused():
    _, config = learned()
    config['decode_head'] = dict(config['decode_head'], skip=True)
    with pytest.raises(InputError, match=r"IncrementalASPPHead has other layers than mmseg's ASPPHead .*skip_norm"):
        stock_network(MODELS.build(config), config, True)
