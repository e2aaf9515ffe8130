"""Weights are read back as written, or refused."""
import os
import pickle

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from ssul_mmseg.errors import InputError
from ssul_mmseg.weights import load_state, load_weights, nothing_unpickled, save_state, save_weights

WEIGHTS = {'a.weight': torch.arange(6.).view(2, 3), 'a.steps': torch.tensor(3)}


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'weights.pth'
    save_weights(path, WEIGHTS, ['cat', 'dog'], 1)
    return path


def test_round_trip(saved):
    loaded = load_weights(saved, ['cat', 'dog'], 1)
    assert loaded.keys() == WEIGHTS.keys() and all(torch.equal(loaded[key], WEIGHTS[key]) for key in WEIGHTS)


@pytest.mark.parametrize('classes, task', [(['dog', 'cat'], 1), (['cat'], 1), (['cat', 'dog'], 2)])
def test_another_task_or_class_order_is_refused(saved, classes, task):
    with pytest.raises(InputError, match=r'weights\.pth is of task 1 .*cat, dog.*another scenario or class order'):
        load_weights(saved, classes, task)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_cut_or_changed_file_is_never_read_as_something_else(saved, data):
    content = bytearray(saved.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    path = saved.with_name('harmed.pth')
    path.write_bytes(content)
    try:
        loaded = load_weights(path, ['cat', 'dog'], 1)
    except InputError as error:
        assert 'harmed.pth' in str(error)
    else:  # bytes of the archive that mean nothing
        assert all(torch.equal(loaded[key], WEIGHTS[key]) for key in WEIGHTS)


@pytest.mark.parametrize('state', [{}, {'meta': {}, 'state_dict': {}}, {'meta': {'task': 1, 'classes': []}}], ids=str)
def test_other_files_of_tensors_are_no_weights_of_a_task(tmp_path, state):
    save_state(tmp_path / 'a.pth', state)
    with pytest.raises(InputError, match=r'a\.pth is not the weights of a task'):
        load_weights(tmp_path / 'a.pth', [], 1)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path, )


def test_code_in_a_file_is_not_run(tmp_path):
    trap = str(tmp_path / 'trap')
    torch.save({'state_dict': Malicious(trap)}, tmp_path / 'torch.pth')
    (tmp_path / 'plain.pth').write_bytes(pickle.dumps(Malicious(trap)))
    for name in ('torch.pth', 'plain.pth'):
        with pytest.raises(InputError, match=name):
            load_state(tmp_path / name)
        with nothing_unpickled(), pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / name, weights_only=False)
    assert not os.path.exists(trap)


def test_a_list_and_a_missing_file_are_refused(tmp_path):
    torch.save([1], tmp_path / 'list.pth')
    with pytest.raises(InputError, match=r'list\.pth holds a list'):
        load_state(tmp_path / 'list.pth')
    with pytest.raises(InputError, match=r'none\.pth are missing'):
        load_state(tmp_path / 'none.pth')
