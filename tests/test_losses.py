import pytest
import torch
import torch.nn.functional as F

from ssul_mmseg.models.losses import IGNORED, NO_POSITIVE, SigmoidBCELoss, SoftmaxCELoss, channel_table


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
    value, gradient = value_and_gradient(SigmoidBCELoss(), logits, target)
    expected, expected_gradient = value_and_gradient(plain_bce, logits, target)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


def test_sigmoid_bce_by_hand():
    # One pixel, scores 0 and 2, true channel 1: log 2 + log(1 + e^-2).
    logits = torch.tensor([0., 2.]).view(1, 2, 1, 1)
    assert SigmoidBCELoss()(logits, torch.tensor([[[1]]])).item() == pytest.approx(0.693147 + 0.126928, abs=1e-5)
    # No channel is positive: log 2 + log(1 + e^2). Ignored: nothing.
    assert SigmoidBCELoss()(logits, torch.tensor([[[NO_POSITIVE]]])).item() == pytest.approx(0.693147 + 2.126928, 1e-5)
    assert SigmoidBCELoss()(logits, torch.tensor([[[IGNORED]]])).item() == 0


def test_large_scores_stay_finite():
    logits = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1)
    value, gradient = value_and_gradient(SigmoidBCELoss(), logits, torch.tensor([[[0]]]))
    assert value == 0 and torch.isfinite(gradient).all()


def test_softmax_ce_ignores_and_sums():
    logits = torch.randn(1, 4, 3, 3)
    target = torch.tensor([[[0, 1, 2], [3, IGNORED, 1], [0, 0, IGNORED]]])
    expected = sum(-logits[0, :, y, x].log_softmax(0)[target[0, y, x]]
                   for y in range(3) for x in range(3) if target[0, y, x] != IGNORED)
    torch.testing.assert_close(SoftmaxCELoss()(logits, target), expected)


def test_channel_table_keeps_the_negative_targets():
    table = channel_table(5, [0, 3, 4], torch.device('cpu'))
    target = torch.tensor([0, 1, 2, 3, 4, NO_POSITIVE, IGNORED])
    assert table[target].tolist() == [0, NO_POSITIVE, NO_POSITIVE, 1, 2, NO_POSITIVE, IGNORED]


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
    SigmoidBCELoss()(part, channel_table(num_old + 4, kept, logits.device)[target]).backward()
    torch.testing.assert_close(part.grad, full.grad[:, kept], rtol=1e-5, atol=1e-5)
