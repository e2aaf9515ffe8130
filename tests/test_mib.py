"""MiB against hand-computed values, and in two tasks."""
import copy

import pytest
import torch
import torch.nn.functional as F
from tiny import samples_of, started, tiny_model

from ssul_mmseg.errors import InputError
from ssul_mmseg.methods.mib import unbiased_ce, unbiased_kd
from ssul_mmseg.models.losses import IGNORED
from ssul_mmseg.scenario import IGNORE

SOFTMAX = dict(unknown=False, loss_decode=dict(type='SoftmaxCELoss'))
Z = torch.tensor([1., 2., 0.]).view(1, 3, 1, 1)


def approx(value):
    return pytest.approx(value, abs=2e-6)


def unce(logits, target, num_old):
    return unbiased_ce(logits, torch.tensor([[[target]]]), num_old).item()


def test_background_may_be_any_old_class():
    assert [unce(Z, y, 2) for y in (0, 1, 2, IGNORED)] == approx([.094344, .094344, 2.407606, 0])
    wide = torch.tensor([1., 2., 0., -1.]).view(1, 4, 1, 1)
    assert [unce(wide, y, 3) for y in (0, 3)] == approx([.032584, 3.440190])
    assert [unce(Z, y, 1) for y in range(3)] == approx([1.407606, .407606, 2.407606])  # in task 0


def test_ignored_pixels_count_in_the_mean():
    found = unbiased_ce(Z.expand(1, 3, 1, 3), torch.tensor([[[0, 2, IGNORED]]]), 2)
    assert found.mean().item() == approx(.833983) and found.sum().item() / 2 == approx(1.250975)


@pytest.mark.parametrize('target, expected', [(0, [-.024213, -.065818, .090031]), (2, [.244728, .665241, -.909969])])
def test_gradient_of_unbiased_ce(target, expected):
    z = Z.clone().requires_grad_()
    unbiased_ce(z, torch.tensor([[[target]]]), 2).sum().backward()
    assert z.grad.flatten().tolist() == approx(expected)


def test_old_background_may_be_any_new_class():
    old = torch.tensor([.5, 1.5]).view(1, 2, 1, 1)
    assert unbiased_kd(Z, old).item() == approx(.296149)
    assert 10 * unbiased_kd(Z, old).item() == approx(2.961492)
    wide, three = torch.tensor([1., 2., 0., -1.]).view(1, 4, 1, 1), torch.tensor([.5, 1.5, 0.]).view(1, 3, 1, 1)
    assert unbiased_kd(wide, three).item() == approx(.307518)


def second_task(weight=10., **options):
    old = tiny_model([3], 'MiB', SOFTMAX, **options)
    return started(tiny_model([3, 2], 'MiB', SOFTMAX, weight=weight, **options), old), old


@pytest.mark.parametrize('options', [{}, {'freeze_backbone': True}], ids=['all learns', 'frozen backbone'])
def test_losses_of_a_later_task(options):
    model, old = second_task(7., **options)
    inputs, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 6, (2, 32, 32), dtype=torch.uint8)
    labels[:, :4] = IGNORE
    losses = model.loss(inputs, samples_of(labels))
    size = dict(size=(32, 32), mode='bilinear')
    logits = F.interpolate(model.decode_head.classify(model.trunk(inputs)), **size)
    with torch.no_grad():
        of_old = F.interpolate(old.eval().decode_head.classify(old.trunk(inputs)), **size)
    target = torch.where(labels == IGNORE, IGNORED, labels.long())
    torch.testing.assert_close(losses['loss_unce'], unbiased_ce(logits, target, 4).mean())
    torch.testing.assert_close(losses['loss_unkd'], 7 * unbiased_kd(logits, of_old).mean())
    sum(losses.values()).backward()
    assert all(p.grad.any() for p in model.parameters() if p.requires_grad)
    if options:
        kept = model(*model.keep(inputs, labels), mode='kept')
        torch.testing.assert_close(kept, losses)


def test_a_task_starts_where_the_old_network_was_sure_of_background():
    model, old = second_task()
    model.eval(), old.eval()
    inputs = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        now, before = (net.decode_head.classify(net.trunk(inputs)).softmax(1) for net in (model, old))
    torch.testing.assert_close(now[:, 1:4], before[:, 1:4])
    torch.testing.assert_close(now[:, [0, 4, 5]].sum(1), before[:, 0])
    # Nothing to distil at the start: UnKD is the old network's entropy.
    batch = model.batch_of(inputs, torch.zeros(2, 32, 32, dtype=torch.uint8))
    of_old = batch.old['logits']
    entropy = -(of_old.softmax(1) * of_old.log_softmax(1)).mean(1)
    torch.testing.assert_close(unbiased_kd(model.logits(batch), of_old), entropy)


def test_the_old_network_runs_before_the_new_one_and_stays_as_it_is():
    model, _ = second_task()
    calls = []
    for name, network in (('new', model), ('old', model.old_model._network)):
        network.backbone.register_forward_pre_hook(
            lambda *_, name=name: calls.append((name, torch.is_grad_enabled())))
    before = copy.deepcopy(model.old_model._network.state_dict())
    losses = model.loss(torch.randn(2, 3, 32, 32), samples_of(torch.zeros(2, 32, 32, dtype=torch.uint8)))
    sum(losses.values()).backward()
    torch.optim.SGD(model.parameters(), lr=.1).step()
    assert calls == [('old', False), ('new', True)]
    assert all(torch.equal(value, before[key]) for key, value in model.old_model._network.state_dict().items())


def test_a_negative_weight_is_refused():
    with pytest.raises(InputError, match=r'model\.weight is -1; it is at least 0 and finite, as published 10'):
        tiny_model([3], 'MiB', SOFTMAX, weight=-1)
