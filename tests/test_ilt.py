"""ILT against a hand-computed value, and in two tasks."""
import pytest
import torch
import torch.nn.functional as F
from tiny import samples_of, started, tiny_model

from ssul_mmseg.errors import InputError
from ssul_mmseg.methods.ilt import ILT
from ssul_mmseg.models.segmentors import Batch
from ssul_mmseg.scenario import IGNORE

SOFTMAX = dict(unknown=False, loss_decode=dict(type='SoftmaxCELoss'))


def test_the_hand_computed_losses_of_a_pixel(monkeypatch):
    model = tiny_model([1, 1], 'ILT', SOFTMAX)
    monkeypatch.setattr(ILT, 'logits', lambda self, batch: torch.tensor([1., 2., 0.]).view(1, 3, 1, 1))
    batch = Batch(torch.tensor([[[2]]]), maps=(torch.tensor([1., 0., 2., 1.]).view(1, 4, 1, 1), ),
                  targets=torch.tensor([[[2]]]),
                  old={'logits': torch.tensor([.5, 1.5]).view(1, 2, 1, 1),
                       'map': torch.tensor([1., 1., 0., 1.]).view(1, 4, 1, 1)})
    losses = model.losses(batch)
    assert losses['loss_features'].item() == pytest.approx(125.)  # a mean square of 1.25
    assert sum(losses.values()).item() == pytest.approx(156.517761, abs=1e-4)


@pytest.mark.parametrize('options', [{}, {'freeze_backbone': True}], ids=['all learns', 'frozen backbone'])
def test_losses_of_a_later_task(options):
    old = tiny_model([3], 'ILT', SOFTMAX, **options)
    model = started(tiny_model([3, 2], 'ILT', SOFTMAX, weight=7., feature_weight=3., **options), old)
    inputs, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 6, (2, 32, 32), dtype=torch.uint8)
    labels[:, :9] = IGNORE  # not counted by the loss, but all pixels are distilled
    losses = model.loss(inputs, samples_of(labels))
    size = dict(size=(32, 32), mode='bilinear')
    logits = F.interpolate(model.decode_head.classify(model.trunk(inputs)), **size)
    with torch.no_grad():
        old.eval()
        distance = (model.backbone(inputs)[-1] - old.backbone(inputs)[-1]).square().mean()
        of_old = F.interpolate(old.decode_head.classify(old.trunk(inputs)), **size)
    kd = F.cross_entropy(logits[:, :4], of_old.softmax(1)) / 4
    ce = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction='none').mean()  # over all pixels
    torch.testing.assert_close(losses, {'loss_ce': ce, 'loss_kd': 7 * kd, 'loss_features': 3 * distance})
    # BatchNorm of the network that learns uses the batch's statistics, that of the old one its own.
    assert (distance > 0) == (not options)
    sum(losses.values()).backward()
    assert all(p.grad.any() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize('value', [-1, float('inf'), float('nan'), None])
def test_weights_that_are_no_positive_numbers_are_refused(value):
    for key in ('weight', 'feature_weight'):
        with pytest.raises(InputError, match=rf'model\.{key} is {value}; it is at least 0 and finite, as .* 100'):
            tiny_model([3], 'ILT', SOFTMAX, **{key: value})
