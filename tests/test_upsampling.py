import math

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from ssul_mmseg.models import upsampling
from ssul_mmseg.models.upsampling import upsampled_argmax, upsampled_pseudo_labels, upsampled_softmax_pseudo_labels


def plain_pseudo_labels(logits, num_old, size, tau):
    """Eq. 1, row 2, as it is written: upsample all channels, argmax, sigmoid, threshold."""
    full = F.interpolate(logits, size=size, mode='bilinear', align_corners=False)
    best = full.argmax(1)
    confidence = full[:, 1:num_old + 1].sigmoid().amax(1)
    old = (best >= 1) & (best <= num_old)
    return torch.where(old & (confidence > tau), best, torch.zeros_like(best))


@pytest.mark.parametrize('num_old', [1, 5, 150])
@pytest.mark.parametrize('unknown', [True, False])
@pytest.mark.parametrize('shift', [-100, -4, 0, 2, 100], ids=['none', 'few', 'some', 'many', 'all'])
def test_pseudo_labels_equal_the_plain_form(num_old, unknown, shift):
    torch.manual_seed(num_old)
    logits = torch.randn(3, 1 + num_old + unknown, 7, 5) * 3
    logits[:, 1:num_old + 1] += shift
    found = upsampled_pseudo_labels(logits, num_old, (33, 29), 0.7)
    assert torch.equal(found, plain_pseudo_labels(logits, num_old, (33, 29), 0.7))
    assert (found.any().item(), shift > 50) in {(False, False), (True, False), (True, True)}
    assert shift != -100 or not found.any()


def test_only_survivors_are_upsampled(monkeypatch):
    upsampled = []
    plain = upsampling.upsample
    monkeypatch.setattr(upsampling, 'upsample', lambda x, *args: upsampled.append(x.shape[1]) or plain(x, *args))
    logits = torch.full((1, 102, 4, 4), -9.)
    logits[0, 17, 1, 2] = 5.
    assert upsampled_pseudo_labels(logits, 100, (40, 40), 0.7).unique().tolist() == [0, 17]
    assert sum(upsampled) == 3  # the survivor, background and unknown


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 6), st.integers(1, 6), st.integers(1, 30),
       st.integers(1, 30), st.sampled_from([0.01, 1., 30.]), st.booleans())
def test_argmax_equals_upsampling_everything(seed, channels, h, w, height, width, scale, align_corners):
    torch.manual_seed(seed)
    logits = torch.randn(2, channels, h, w) * scale
    size = max(h, height), max(w, width)
    full = F.interpolate(logits, size=size, mode='bilinear', align_corners=align_corners)
    found = upsampled_argmax(logits, size, align_corners)
    # Where two channels tie to rounding, either is right.
    torch.testing.assert_close(full.gather(1, found.unsqueeze(1)).squeeze(1), full.amax(1), rtol=0, atol=1e-5 * scale)


def test_a_class_second_everywhere_can_win_between():
    logits = torch.tensor([[1., -1.], [-1., 1.], [.9, .9]]).view(1, 3, 1, 2)
    assert upsampled_argmax(logits, (1, 4)).tolist() == [[[0, 2, 2, 1]]]


def test_softmax_is_confident_by_its_share_of_all_channels():
    # A row per pixel; channels: background, two old classes, unknown.
    shares = torch.tensor([[.1, .8, .05, .05], [.05, .05, .2, .7], [.1, .1, .75, .05], [.8, .1, .05, .05],
                           [.2, .6, .1, .1], [.1, .05, .05, .8]])
    logits = (shares.log() - 3).T.reshape(1, 4, 1, 6)
    assert upsampled_softmax_pseudo_labels(logits, 2, (1, 6), .7).tolist() == [[[1, 0, 2, 0, 0, 0]]]


def test_threshold_is_exclusive():
    at_tau = torch.full((1, 3, 1, 1), -9.)
    at_tau[0, 1] = math.log(0.7 / 0.3) - 1e-3
    assert upsampled_pseudo_labels(at_tau, 1, (1, 1), 0.7).item() == 0
    at_tau[0, 1] += 2e-3
    assert upsampled_pseudo_labels(at_tau, 1, (1, 1), 0.7).item() == 1


@pytest.mark.parametrize('unknown', [True, False])
def test_ties_are_decided_as_argmax_decides_them(unknown):
    """Whole numbers, not upsampled: background wins over classes, a class over those after it and over unknown."""
    torch.manual_seed(0)
    logits = torch.randint(-1, 3, (4, 4 + unknown, 9, 9)).float()
    best = logits.amax(1)
    assert ((logits[:, 0] == best) & (logits[:, 1:4].amax(1) == best) & (best > 1)).any()
    expected = plain_pseudo_labels(logits, 3, (9, 9), .7)
    assert torch.equal(upsampled_pseudo_labels(logits, 3, (9, 9), .7), expected) and expected.unique().numel() == 4
    by_softmax = upsampled_softmax_pseudo_labels(logits, 3, (9, 9), .2)
    assert torch.equal(by_softmax, torch.where((logits.softmax(1).amax(1) > .2) & (logits.argmax(1) < 4),
                                               logits.argmax(1), 0))
