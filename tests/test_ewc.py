"""EWC against hand-computed values, and in two tasks."""
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from tiny import samples_of, tiny_model

from ssul_mmseg.errors import InputError
from ssul_mmseg.methods.ewc import normalise, update_fisher
from ssul_mmseg.models.segmentors import OldTask
from ssul_mmseg.scenario import IGNORE

SOFTMAX = dict(unknown=False, loss_decode=dict(type='SoftmaxCELoss'))
BIAS = 'decode_head.classifiers.background.0.bias'
FISHER = torch.tensor([.1, 1.27, 8.11])


def second_task(state, weight=500.):
    """A network that starts a second task, with the same weights as the first; and those."""
    old, model = tiny_model([3], 'EWC', SOFTMAX), tiny_model([3, 1], 'EWC', SOFTMAX, penalty_weight=weight)
    model.start_task(OldTask({key: value.clone() for key, value in old.state_dict().items()}, state))
    return model.train(), dict(old.named_parameters())


def test_fisher_is_a_running_average_that_starts_at_one():
    first = update_fisher(None, torch.tensor([1., -2., 0.]))
    torch.testing.assert_close(first, torch.tensor([1., 3.7, .1]))
    torch.testing.assert_close(update_fisher(first, torch.tensor([0., 1., 3.])), FISHER)


def test_fisher_is_brought_to_one_tensor_by_tensor():
    torch.testing.assert_close(normalise(FISHER), torch.tensor([0., .146067, 1.]), atol=1e-6, rtol=0)
    assert not normalise(torch.full((3, ), 2.)).any()


def test_penalty_and_its_gradient():
    name = 'decode_head.classifiers.task_0.0.bias'
    model, _ = second_task({name: FISHER})
    bias = dict(model.named_parameters())[name]
    with torch.no_grad():
        bias += torch.tensor([.1, .2, -.1])
    assert model.penalty().item() == pytest.approx(500 * .015843, abs=5e-4)
    assert model.penalty().item() == pytest.approx(7.921348, abs=1e-5)
    bias.grad = torch.tensor([1., 1., 1.])
    model.before_step()
    torch.testing.assert_close(bias.grad, 1 + torch.tensor([0., 29.213483, -100.]), atol=1e-4, rtol=0)
    # Of the task's own gradient, without the penalty's.
    torch.testing.assert_close(model.task_state()[name], torch.ones(3))


def test_every_old_parameter_is_held_and_the_new_class_is_free():
    old = tiny_model([3], 'EWC', SOFTMAX).train()
    inputs, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 4, (2, 32, 32), dtype=torch.uint8)
    labels[:, :4] = IGNORE
    losses = old.loss(inputs, samples_of(labels))
    logits = F.interpolate(old.decode_head.classify(old.trunk(inputs)), size=(32, 32), mode='bilinear')
    total = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction='sum')
    torch.testing.assert_close(losses, {'loss_ce': total / labels.numel()})  # ignored pixels count in the mean
    losses['loss_ce'].backward()
    old.before_step()
    gradients = {name: p.grad for name, p in old.named_parameters()}
    state = old.finish_task(None)
    assert state.keys() == gradients.keys()
    torch.testing.assert_close(state, {name: .9 * g ** 2 + .1 for name, g in gradients.items()})
    model, before = second_task(state)
    assert set(model.held) == set(before) and not any('task_1' in name for name in model.held)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += .01
    losses = model.loss(inputs, samples_of(labels))
    expected = 500 * sum((normalise(state[name]) * .01 ** 2).sum() for name in before)
    torch.testing.assert_close(losses['ewc_penalty'], expected, rtol=1e-3, atol=0)
    losses['loss_ce'].backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.before_step()
    for name, parameter in model.named_parameters():
        held = 2 * 500 * .01 * normalise(state[name]) if name in state else 0
        torch.testing.assert_close(parameter.grad, plain[name] + held, rtol=1e-3, atol=1e-4, msg=name)


def test_the_penalty_is_shown_and_is_no_second_time_in_the_loss():
    model, _ = second_task({BIAS: torch.tensor([1.]), 'decode_head.classifiers.task_0.0.bias': FISHER})
    losses = model.loss(torch.randn(2, 3, 32, 32), samples_of(torch.zeros(2, 32, 32, dtype=torch.uint8)))
    total, shown = model.parse_losses(losses)
    assert total == losses['loss_ce'] and set(shown) == {'loss', 'loss_ce', 'ewc_penalty'}


def test_a_task_of_another_method_and_a_negative_weight_are_refused():
    with pytest.raises(InputError, match='task 0 was learned by another method, and has no Fisher information'):
        second_task({})
    with pytest.raises(InputError, match=r'model\.penalty_weight is -1\.0; it is at least 0 and finite'):
        second_task({}, -1.)


def test_the_average_is_in_checkpoints_and_goes_on():
    """That a whole run goes on in the same numbers is tested for every method in test_resume.py."""
    model, _ = second_task({BIAS: torch.tensor([1.])})
    model.fisher = {BIAS: FISHER[:1]}
    other, _ = second_task({BIAS: torch.tensor([1.])})
    other.load_task_state(model.task_state())
    for network in (model, other):
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        network.before_step()
    assert other.task_state()[BIAS].item() == pytest.approx(.9 + .1 * .1)
    torch.testing.assert_close(other.task_state(), model.task_state())


@pytest.mark.parametrize('config', sorted(Path('configs/ewc').glob('*.py')), ids=lambda path: path.stem)
def test_the_penalty_of_a_config_lets_sgd_converge(config):
    """A step of SGD with momentum m on a curvature c is stable below the learning rate 2 (1 + m) / c."""
    cfg = Config.fromfile(config)
    optimizer = {**cfg.optim_wrapper.optimizer, **cfg.incremental.optim_wrapper.optimizer}
    curvature = 2 * cfg.model.get('penalty_weight', 500)
    assert optimizer['lr'] < 2 * (1 + optimizer['momentum']) / curvature
