"""LwF in two tasks; its distillation is tested with those of others."""
import pytest
import torch
import torch.nn.functional as F
from tiny import samples_of, started, tiny_model

from ssul_mmseg.errors import InputError
from ssul_mmseg.models.distillation import old_class_distillation
from ssul_mmseg.scenario import IGNORE

SOFTMAX = dict(unknown=False, loss_decode=dict(type='SoftmaxCELoss'))


def test_the_hand_computed_term_times_its_weight():
    z, old = torch.tensor([1., 2., 0.]).view(1, 3, 1, 1), torch.tensor([.5, 1.5]).view(1, 2, 1, 1)
    default = tiny_model([1], 'LwF', SOFTMAX).weight
    assert default * old_class_distillation(z, old).item() == pytest.approx(29.110155, abs=1e-4)


def test_losses_of_a_later_task():
    old = tiny_model([3], 'LwF', SOFTMAX)
    model = started(tiny_model([3, 2], 'LwF', SOFTMAX, weight=7.), old)
    assert not model.decode_head.classifiers['task_1'][-1].bias.any()  # new classes are drawn, not transferred
    inputs, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 6, (2, 32, 32), dtype=torch.uint8)
    labels[:, :4] = IGNORE
    losses = model.loss(inputs, samples_of(labels))
    size = dict(size=(32, 32), mode='bilinear')
    logits = F.interpolate(model.decode_head.classify(model.trunk(inputs)), **size)
    with torch.no_grad():
        of_old = F.interpolate(old.eval().decode_head.classify(old.trunk(inputs)), **size)
    ce = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction='sum') / labels.numel()
    kd = F.cross_entropy(logits[:, :4], of_old.softmax(1)) / 4
    torch.testing.assert_close(losses, {'loss_ce': ce, 'loss_kd': 7 * kd})
    sum(losses.values()).backward()
    assert all(p.grad.any() for p in model.parameters())


def test_task_0_is_plain_and_a_negative_weight_is_refused():
    model = tiny_model([3], 'LwF', SOFTMAX).train()
    assert set(model.loss(torch.randn(2, 3, 32, 32), samples_of(torch.zeros(2, 32, 32).byte()))) == {'loss_ce'}
    with pytest.raises(InputError, match=r'model\.weight is -1; it is at least 0 and finite, as published 100'):
        tiny_model([3], 'LwF', SOFTMAX, weight=-1)
