import math

import pytest
import torch
import torch.nn.functional as F

from ssul_mmseg.models.losses import (
    IGNORED,
    NO_POSITIVE,
    SigmoidBCELoss,
    SoftmaxCELoss,
    channel_table,
    lookup,
    upsampled_sigmoid_bce,
)
from ssul_mmseg.scenario import IGNORE


def plain_bce(logits, target):
    """The definition: one-hot targets, BCE of every channel, summed over channels and valid pixels."""
    one_hot = torch.zeros_like(logits)
    for channel in range(logits.shape[1]):
        one_hot[:, channel] = target == channel
    per_channel = F.binary_cross_entropy_with_logits(logits, one_hot, reduction='none')
    return (per_channel.sum(1) * (target != IGNORED)).sum()


def value_and_gradient(loss, logits, target):
    logits = logits.clone().requires_grad_()
    value = loss(logits, target)
    value.backward()
    return value.detach(), logits.grad


@pytest.mark.parametrize('channels', [1, 3, 8, 152])
def test_sigmoid_bce_equals_the_definition(channels):
    torch.manual_seed(channels)
    logits = torch.randn(2, channels, 9, 7) * 4
    target = torch.randint(-2, channels, (2, 9, 7))
    value, gradient = value_and_gradient(SigmoidBCELoss().grid_sum, logits, target)
    expected, expected_gradient = value_and_gradient(plain_bce, logits, target)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('labels', ['mixed', 'none positive', 'all ignored'])
@pytest.mark.parametrize('shape', [(3, 5, 4, 33, 30), (152, 3, 3, 9, 7), (2, 1, 1, 5, 4), (4, 6, 5, 6, 5)], ids=str)
def test_upsampled_bce_equals_upsampling_and_the_definition(shape, labels, align_corners):
    channels, *grid, height, width = shape
    torch.manual_seed(channels)
    logits = torch.randn(2, channels, *grid) * 4
    target = {'mixed': torch.randint(-2, channels, (2, height, width)),
              'none positive': torch.full((2, height, width), NO_POSITIVE),
              'all ignored': torch.full((2, height, width), IGNORED)}[labels]

    def plain(logits, target):
        return plain_bce(F.interpolate(logits, (height, width), mode='bilinear', align_corners=align_corners), target)
    expected, expected_gradient = value_and_gradient(plain, logits, target)
    for autocast in (False, True):
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            value, gradient = value_and_gradient(
                lambda *args: upsampled_sigmoid_bce(*args, align_corners), logits, target)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


def test_upsampled_bce_of_no_image_is_nothing_with_a_gradient():
    value, gradient = value_and_gradient(upsampled_sigmoid_bce, torch.zeros(0, 3, 1, 1), torch.zeros(0, 1, 1).long())
    assert value == 0 and gradient.shape == (0, 3, 1, 1)


def test_upsampled_bce_scales_with_what_follows_it():
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(-2, 3, (2, 9, 9))
    _, gradient = value_and_gradient(upsampled_sigmoid_bce, logits, target)
    _, scaled = value_and_gradient(lambda *args: upsampled_sigmoid_bce(*args) * 3 / 7, logits, target)
    torch.testing.assert_close(scaled, gradient * 3 / 7)


@pytest.mark.parametrize('score', [0., 1e-6, 20., 1e4])
def test_many_scores_near_and_far_from_zero_lose_nothing(score):
    """At score 0 each of 1,000 channels halves the product of which the logarithm is taken."""
    logits = torch.full((1, 1000, 2, 2), score)
    target = torch.full((1, 4, 4), NO_POSITIVE)
    value = upsampled_sigmoid_bce(logits, target)
    assert value.item() == pytest.approx(16_000 * (score + math.log1p(math.exp(-score))), rel=1e-5)


def test_sigmoid_bce_by_hand():
    # One pixel, scores 0 and 2, true channel 1: log 2 + log(1 + e^-2).
    logits = torch.tensor([0., 2.]).view(1, 2, 1, 1)
    loss = SigmoidBCELoss().grid_sum
    assert loss(logits, torch.tensor([[[1]]])).item() == pytest.approx(0.693147 + 0.126928, abs=1e-5)
    # No channel is positive: log 2 + log(1 + e^2). Ignored: nothing.
    assert loss(logits, torch.tensor([[[NO_POSITIVE]]])).item() == pytest.approx(0.693147 + 2.126928, 1e-5)
    assert loss(logits, torch.tensor([[[IGNORED]]])).item() == 0


@pytest.mark.parametrize('loss', [SigmoidBCELoss(), SoftmaxCELoss()], ids=lambda loss: loss.loss_name)
def test_the_losses_of_pixels_add_up_to_the_sum(loss):
    logits, target = torch.randn(2, 4, 5, 5) * 4, torch.randint(0, 4, (2, 5, 5))
    target[:, 0], target[:, 1] = IGNORED, (NO_POSITIVE if loss.use_sigmoid else 3)
    for row in range(5):
        alone = torch.full_like(target, IGNORED)
        alone[1, row, 2] = target[1, row, 2]
        torch.testing.assert_close(loss.pixel_losses(logits, target)[1, row, 2], loss.grid_sum(logits, alone))


def test_large_scores_stay_finite():
    logits = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1)
    value, gradient = value_and_gradient(SigmoidBCELoss().grid_sum, logits, torch.tensor([[[0]]]))
    assert value == 0 and torch.isfinite(gradient).all()


def test_softmax_ce_ignores_and_sums():
    logits = torch.randn(1, 4, 3, 3)
    target = torch.tensor([[[0, 1, 2], [3, IGNORED, 1], [0, 0, IGNORED]]])
    expected = sum(-logits[0, :, y, x].log_softmax(0)[target[0, y, x]]
                   for y in range(3) for x in range(3) if target[0, y, x] != IGNORED)
    torch.testing.assert_close(SoftmaxCELoss().grid_sum(logits, target), expected)


def test_channel_table_keeps_the_negative_targets():
    table = channel_table(5, [0, 3, 4], torch.device('cpu'))
    target = torch.tensor([0, 1, 2, 3, 4, NO_POSITIVE, IGNORED])
    assert lookup(table, target - IGNORED).tolist() == [0, NO_POSITIVE, NO_POSITIVE, 1, 2, NO_POSITIVE, IGNORED]


@pytest.mark.parametrize('num_old', [1, 5, 150])
def test_learning_channels_alone_give_the_same_gradient(num_old):
    """Frozen channels add a constant to BCE: leaving them out changes no gradient of the others."""
    torch.manual_seed(0)
    logits = torch.randn(2, num_old + 4, 6, 6)
    target = torch.randint(-2, num_old + 4, (2, 6, 6))
    kept = [0, num_old + 1, num_old + 2, num_old + 3]
    full = logits.clone().requires_grad_()
    plain_bce(full, target).backward()
    part = logits[:, kept].clone().requires_grad_()
    kept_target = lookup(channel_table(num_old + 4, kept, logits.device), target - IGNORED)
    SigmoidBCELoss().grid_sum(part, kept_target).backward()
    torch.testing.assert_close(part.grad, full.grad[:, kept], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('loss', [SigmoidBCELoss(), SoftmaxCELoss()], ids=lambda loss: loss.loss_name)
def test_mmseg_gets_the_mean_over_valid_pixels(loss):
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    target[0, :2] = IGNORE
    expected = loss.grid_sum(logits, target.masked_fill(target == IGNORE, IGNORED)) / 30
    torch.testing.assert_close(loss(logits, target, weight=None, ignore_index=IGNORE), expected)
    # A pixel sampler asks for the loss of every pixel, and gives back a weight for each.
    alone = loss(logits, target, reduction_override='none')
    assert alone.shape == (2, 4, 5) and not alone[0, :2].any()
    torch.testing.assert_close(alone.sum() / 30, expected)
    weight = (torch.rand(2, 4, 5) > .5).float()
    picked = target.masked_fill((target == IGNORE) | (weight == 0), IGNORED)
    torch.testing.assert_close(loss(logits, target, weight=weight), loss.grid_sum(logits, picked) / 30)
