"""Convolutions run in channels-last layout where that is safe."""
import torch
from mmseg.registry import MODELS
from tiny import MIT, samples_of, tiny_model
from torch import nn

MOBILE = dict(type='MobileNetV2', widen_factor=.25, strides=(1, 2, 2, 1, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4, 4),
              out_indices=(1, 2, 4, 6), norm_cfg=dict(type='BN'))


def build(backbone, channels, **options):
    torch.manual_seed(0)
    return MODELS.build(dict(type='SSUL', backbone=backbone, decode_head=dict(
        type='IncrementalASPPHead', in_channels=channels, in_index=3, channels=8, dilations=(1, 2), dropout_ratio=0,
        norm_cfg=dict(type='BN'), classes_per_task=[3]), **options))


def test_convolutions_that_channels_last_would_break_run_contiguous():
    # A strided 1x1 convolution of fewer than eight channels; MiT has such convolutions without a stride.
    assert tiny_model([3]).memory_format == torch.contiguous_format
    assert build(MIT, 32).memory_format == torch.channels_last
    wide, plain = build(MOBILE, 80), build(MOBILE, 80, channels_last=False)
    for model, layout in ((wide, torch.channels_last), (plain, torch.contiguous_format)):
        assert model.memory_format == layout
        assert all(module.weight.is_contiguous(memory_format=layout) for module in model.modules()
                   if isinstance(module, nn.Conv2d))
    inputs, samples = torch.randn(2, 3, 64, 64), samples_of(torch.randint(0, 4, (2, 64, 64)))
    torch.testing.assert_close(wide.loss(inputs, samples), plain.loss(inputs, samples))
