"""Local POD against hand-computed values; the stages of backbones before their last activation."""
import math

import pytest
import torch
from mmseg.registry import MODELS
from tiny import tiny_model

from ssul_mmseg.errors import InputError
from ssul_mmseg.models.pod import count_stages, fold_new_channels, local_pod, pod_distance, watch_stages

NORM = dict(type='BN')


@pytest.mark.parametrize('scales, distance, length', [
    ((1, ), 1.414214, 8), ((1, 2), 3.162278, 24), ((1, 2, 4), 6.480741, 56)])
def test_embeddings(scales, distance, length):
    a = (4 * torch.arange(4.).view(4, 1) + torch.arange(4.)).view(1, 1, 4, 4) / 10
    b = a.clone()
    b[..., 3, 3] += 1
    new, old = local_pod(b, scales), local_pod(a, scales)
    assert new.shape == (1, length)
    assert pod_distance(new, old).item() == pytest.approx(distance, abs=2e-6)
    if len(scales) == 3:
        assert .01 * math.sqrt(17) * pod_distance(new, old).item() == pytest.approx(.267208, abs=1e-6)


def test_embeddings_are_the_means_of_rows_and_columns_of_every_part():
    x = torch.randn(2, 3, 5, 7)
    parts = [x[:, :, i * h:(i + 1) * h, j * w:(j + 1) * w].square() for s, h, w in ((1, 5, 7), (2, 2, 3), (4, 1, 1))
             for i in range(s) for j in range(s)]
    expected = torch.cat([part.mean(axis).flatten(1) for part in parts for axis in (2, 3)], dim=1)
    torch.testing.assert_close(local_pod(x).sort()[0], expected.sort()[0])
    assert local_pod(torch.randn(1, 3, 3, 3)).shape == (1, 3 * (6 + 4 * 2))  # no four parts of three pixels


def test_distance_is_that_of_an_image_and_its_mean_over_the_batch():
    new, old = torch.tensor([[3., 4.], [0., 1.]]), torch.zeros(2, 2)
    assert pod_distance(new, old).item() == pytest.approx(3.)
    same = torch.zeros(2, 2, requires_grad=True)
    pod_distance(same, old).backward()
    assert not same.grad.any()  # and is a number


def test_new_channels_are_background():
    logits = torch.tensor([1., 2., 3., 4., 5.]).view(1, 5, 1, 1)
    assert fold_new_channels(logits, 3).flatten().tolist() == [10., 2., 3.]


def before_last_relu(block, x):
    """A residual block without its last ReLU."""
    out = block.relu(block.norm1(block.conv1(x)))
    out = block.norm2(block.conv2(out))
    if hasattr(block, 'conv3'):
        out = block.norm3(block.conv3(block.relu(out)))
    return out + (x if block.downsample is None else block.downsample(x))


@pytest.mark.parametrize('depth', [18, 50])
def test_stages_of_a_resnet_are_seen_before_their_last_activation_and_nothing_changes(depth):
    torch.manual_seed(0)
    backbone = MODELS.build(dict(type='ResNet', depth=depth, base_channels=4, out_indices=(3, ), norm_cfg=NORM))
    backbone.eval()
    inputs = torch.randn(2, 3, 64, 64)
    plain, = backbone(inputs)
    plain.sum().backward()
    gradient = backbone.conv1.weight.grad.clone()
    backbone.zero_grad()
    with watch_stages(backbone, lambda x: x.square().mean((2, 3))) as found:
        seen, = backbone(inputs)
    assert torch.equal(seen, plain) and list(found) == ['layer1', 'layer2', 'layer3', 'layer4']
    assert count_stages(backbone, 1) == len(found)
    seen.sum().backward(retain_graph=True)
    torch.testing.assert_close(backbone.conv1.weight.grad, gradient)
    backbone.zero_grad()
    # Hooks are gone, and what they saw has a gradient.
    x = backbone.maxpool(backbone.relu(backbone.norm1(backbone.conv1(inputs))))
    for name in found:
        *blocks, last = getattr(backbone, name)
        for block in blocks:
            x = block(x)
        summed = before_last_relu(last, x)
        assert summed.min() < 0
        torch.testing.assert_close(found[name], summed.square().mean((2, 3)))
        x = summed.relu()
    sum(value.sum() for value in found.values()).backward()
    assert backbone.conv1.weight.grad.any()


def test_stages_of_efficientnet_lite():
    pytest.importorskip('efficientnet_lite_pytorch', reason='the extra lite is not installed')
    backbone = MODELS.build(dict(type='EfficientNetLite', norm_cfg=NORM)).eval()
    with watch_stages(backbone, lambda x: x.square().mean((2, 3))) as found:
        last, = backbone(torch.randn(1, 3, 64, 64))
    assert [value.shape[1] for value in found.values()] == [24, 40, 112, 320]
    torch.testing.assert_close([*found.values()][-1], last.square().mean((2, 3)))


def test_of_other_backbones_the_maps_are_seen():
    backbone = MODELS.build(dict(
        type='MixVisionTransformer', embed_dims=4, num_stages=4, num_layers=[1] * 4, num_heads=[1, 2, 4, 8],
        patch_sizes=[7, 3, 3, 3], sr_ratios=[8, 4, 2, 1], out_indices=(0, 1, 2, 3), mlp_ratio=2)).eval()
    with watch_stages(backbone, lambda x: x.mean()) as found:
        maps = backbone(torch.randn(1, 3, 64, 64))
    torch.testing.assert_close([*found.values()], [x.mean() for x in maps])
    assert count_stages(backbone, len(maps)) == len(found) == 4


def test_a_backbone_that_hides_its_stages_is_refused():
    backbone = tiny_model([3]).backbone
    with pytest.raises(InputError, match='the stages of ResNet are hidden when it is compiled; set compile=False'), \
            watch_stages(backbone, local_pod):
        pass
