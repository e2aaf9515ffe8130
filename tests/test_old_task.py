"""A task starts from the weights of the one before, which must fit."""
import pytest
import torch
from tiny import started, tiny_model

from ssul_mmseg.errors import InputError
from ssul_mmseg.models.old_task import OldTask


@pytest.mark.parametrize('change, key', [
    (lambda state: state.pop('backbone.conv1.weight'), 'backbone.conv1.weight'),
    (lambda state: state.update(extra=torch.zeros(1)), 'extra'),
    (lambda state: state.update({'decode_head.classifiers.task_0.0.bias': torch.zeros(4)}), 'task_0.0.bias'),
    (lambda state: state.update({'decode_head.classifiers.task_1.0.bias': torch.zeros(2)}), 'task_1.0.bias'),
    (lambda state: state.update({'backbone.bn1.bias': state['backbone.bn1.bias'].half()}), 'backbone.bn1.bias'),
])
def test_old_weights_must_fit_but_for_the_classifier_of_the_task(change, key):
    state = tiny_model([3]).state_dict()
    change(state)
    with pytest.raises(InputError, match=f'the weights of task 0 do not fit this network: .*{key}'):
        tiny_model([3, 2]).start_task(OldTask(state))


def test_a_task_starts_from_the_old_weights_and_a_classifier_of_its_own():
    old, model = (tiny_model(classes, 'FineTuning') for classes in ([3], [3, 2]))
    started(model, old)
    state, new = model.state_dict(), 'decode_head.classifiers.task_1.0'
    assert {key for key in state if key not in old.state_dict()} == {f'{new}.weight', f'{new}.bias'}
    assert all(torch.equal(state[key], value) for key, value in old.state_dict().items())
    assert state[f'{new}.weight'].std().item() == pytest.approx(.01, rel=.5) and not state[f'{new}.bias'].any()
