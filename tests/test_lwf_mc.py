"""LwF-MC against hand-computed values, and in two tasks."""
import pytest
import torch
import torch.nn.functional as F
from tiny import samples_of, started, tiny_model

from ssul_mmseg.errors import InputError
from ssul_mmseg.methods.lwf_mc import LwFMC, sigmoid_distillation
from ssul_mmseg.models.losses import IGNORED
from ssul_mmseg.models.segmentors import Batch
from ssul_mmseg.scenario import IGNORE

SIGMOID = dict(unknown=False)
Z, OLD = torch.tensor([1., 2., 0.]).view(1, 3, 1, 1), torch.tensor([.5, 1.5]).view(1, 2, 1, 1)


def test_distillation_compares_probabilities_channel_by_channel():
    each = [sigmoid_distillation(Z[:, c:c + 1], OLD[:, c:c + 1]).item() for c in range(2)]
    assert each == pytest.approx([.690802, .491779], abs=1e-6)
    assert 10 * sigmoid_distillation(Z[:, :2], OLD).item() == pytest.approx(11.825814, abs=1e-5)


@pytest.mark.parametrize('target, expected', [(0, 3.133337), (1, 2.133337), (2, 4.133337), (IGNORED, 0)])
def test_the_hand_computed_losses_of_a_pixel(monkeypatch, target, expected):
    model = tiny_model([1, 1], 'LwFMC', SIGMOID)
    monkeypatch.setattr(LwFMC, 'logits', lambda self, batch: Z)
    losses = model.losses(Batch(torch.zeros(1, 1, 1), targets=torch.tensor([[[target]]]), old={'logits': OLD}))
    assert losses['loss_bce'].item() == pytest.approx(expected, abs=1e-5)
    assert sum(losses.values()).item() == pytest.approx(expected + 11.825814, abs=1e-5)
    if target == 2:
        assert sum(losses.values()).item() == pytest.approx(15.959151, abs=1e-5)


def test_losses_of_a_later_task():
    old = tiny_model([3], 'LwFMC', SIGMOID)
    model = started(tiny_model([3, 2], 'LwFMC', SIGMOID, weight=7.), old)
    inputs, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 6, (2, 32, 32), dtype=torch.uint8)
    labels[:, :4] = IGNORE
    losses = model.loss(inputs, samples_of(labels))
    size = dict(size=(32, 32), mode='bilinear')
    logits = F.interpolate(model.decode_head.classify(model.trunk(inputs)), **size)
    with torch.no_grad():
        of_old = F.interpolate(old.eval().decode_head.classify(old.trunk(inputs)), **size)
    one_hot = F.one_hot(labels.long() * (labels != IGNORE), 6).permute(0, 3, 1, 2).float()
    bce = F.binary_cross_entropy_with_logits(logits, one_hot, reduction='none').sum(1) * (labels != IGNORE)
    # 7 times the number of old channels, times the mean over pixels and old channels.
    kd = 7 * 4 * F.binary_cross_entropy_with_logits(logits[:, :4], of_old.sigmoid())
    torch.testing.assert_close(losses, {'loss_bce': bce.mean(), 'loss_kd': kd})
    sum(losses.values()).backward()
    assert all(p.grad.any() for p in model.parameters())


def test_a_negative_weight_is_refused():
    with pytest.raises(InputError, match=r'model\.weight is -1; it is at least 0 and finite, as published 10'):
        tiny_model([3], 'LwFMC', SIGMOID, weight=-1)
