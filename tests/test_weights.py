"""Weights are read back as written, or refused."""
import math
import os
import pickle
import struct
import zipfile

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from ssul_mmseg.errors import InputError
from ssul_mmseg.work_dir.weights import (
    FORCE,
    forbid_unpickling,
    load_state,
    load_weights,
    not_finite,
    save_state,
    save_weights,
)

PALETTE = [[0, 0, 0], [200, 0, 0], [0, 0, 255]]
WEIGHTS = {'a.weight': torch.nn.Parameter(torch.arange(6.).view(2, 3)), 'a.steps': torch.tensor(3)}


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'weights.pth'
    save_weights(path, WEIGHTS, ['cat', 'dog'], PALETTE, 1, {'images': 'x'})
    return path


def test_round_trip(saved):
    loaded = load_weights(saved, ['cat', 'dog'], 1).state_dict
    assert loaded.keys() == WEIGHTS.keys() and all(torch.equal(loaded[key], WEIGHTS[key]) for key in WEIGHTS)
    assert not any(value.requires_grad for value in loaded.values())


@pytest.mark.parametrize('classes, task', [(['dog', 'cat'], 1), (['cat'], 1), (['cat', 'dog'], 2)])
def test_another_task_or_class_order_is_refused(saved, classes, task):
    with pytest.raises(InputError, match=r'weights\.pth is of task 1 .*cat, dog.*another scenario or class order'):
        load_weights(saved, classes, task)


def test_long_lists_of_classes_are_shortened(saved):
    with pytest.raises(InputError, match=r'\[cat, dog\], but task 1 and the classes \[a, b, c, d\] are needed'):
        load_weights(saved, list('abcd'), 1)
    with pytest.raises(InputError, match=r'the classes \[a, b, c, d, \.\.\. f\] \(6\) are needed'):
        load_weights(saved, list('abcdef'), 1)


def test_weights_make_their_folder_and_are_refused_where_they_cannot_be_written(tmp_path):
    save_weights(tmp_path / 'a/b.pth', WEIGHTS, [], PALETTE[:1], 0, {})
    with pytest.raises(InputError, match=r'cannot write .*c\.pth'):
        save_weights(tmp_path / 'a/b.pth/c.pth', WEIGHTS, [], PALETTE[:1], 0, {})
    assert os.listdir(tmp_path / 'a') == ['b.pth'] and load_weights(tmp_path / 'a/b.pth', [], 0)


@settings(max_examples=60)
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
        loaded = load_weights(path, ['cat', 'dog'], 1).state_dict
    except InputError as error:
        assert 'harmed.pth' in str(error)
    else:  # bytes of the archive that mean nothing
        assert all(torch.equal(loaded[key], WEIGHTS[key]) for key in WEIGHTS)


def test_a_flipped_bit_of_a_weight_is_noticed(saved):
    content = bytearray(saved.read_bytes())
    content[content.index(struct.pack('<6f', *range(6))) + 10] ^= 1
    path = saved.with_name('flipped.pth')
    path.write_bytes(content)
    with pytest.raises(InputError, match=r'flipped\.pth is torn'):
        load_state(path)


def test_a_weight_that_is_marked_as_a_folder_is_noticed(saved):
    """The bit is in no checksum, and torch reads uninitialised memory for such a weight."""
    content = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        (name, ) = (name for name in archive.namelist() if name.endswith('/data/0'))
    # The name's last place is in the directory of the archive, 8 bytes after the attributes.
    content[content.rindex(name.encode()) - 8] |= 0x10
    path = saved.with_name('folder.pth')
    path.write_bytes(content)
    with pytest.raises(InputError, match=r'folder\.pth is torn'):
        load_state(path)


META = {'task': 1, 'classes': [], 'palette': [[0, 0, 0]], 'digest': '', 'origin': {}}


@pytest.mark.parametrize('state', [
    {}, {'meta': {}, 'state_dict': {}}, {'meta': META}, {'meta': META, 'state_dict': []},
    {'meta': [], 'state_dict': {}}, {'state_dict': {}},
    {'meta': META | {'task': '1'}, 'state_dict': {}}, {'meta': META | {'classes': 'a'}, 'state_dict': {}},
    {'meta': META | {'digest': 1}, 'state_dict': {}}, {'meta': META | {'origin': None}, 'state_dict': {}},
    {'meta': META | {'palette': []}, 'state_dict': {}}, {'meta': META | {'palette': [[0, 0, 256]]}, 'state_dict': {}},
    {'meta': META, 'state_dict': {'a': 1.}}, {'meta': META, 'state_dict': {1: torch.zeros(1)}},
    {'meta': META, 'state_dict': {}, 'method_state': {'a': 1.}},
    {'meta': META, 'state_dict': {}, 'method_state': None}], ids=str)
def test_other_files_of_tensors_are_no_weights_of_a_task(tmp_path, state):
    save_state(tmp_path / 'a.pth', {'method_state': {}, **state})
    with pytest.raises(InputError, match=r'a\.pth is not the weights of a task'):
        load_weights(tmp_path / 'a.pth', [], 1)


@pytest.mark.parametrize('before', [None, '0'])
def test_the_ban_on_unpickling_ends_with_its_block(before, monkeypatch, capsys):
    monkeypatch.setenv(FORCE, before or '')
    if before is None:
        monkeypatch.delenv(FORCE)
    with forbid_unpickling():
        print('mmengine falls back on unpickling')
        assert os.environ[FORCE] == '1'
    assert os.environ.get(FORCE) == before and capsys.readouterr().out == ''


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
        with forbid_unpickling(), pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / name, weights_only=False)
    assert not os.path.exists(trap)


def test_a_list_and_a_missing_file_are_refused(tmp_path):
    torch.save([1], tmp_path / 'list.pth')
    with pytest.raises(InputError, match=r'list\.pth holds a list'):
        load_state(tmp_path / 'list.pth')
    with pytest.raises(InputError, match=r'none\.pth are missing'):
        load_state(tmp_path / 'none.pth')


def test_what_weights_are_of_and_from(tmp_path):
    checksums = []
    for name, value in (('a', 1.), ('b', 1.), ('c', 2.)):
        save_weights(tmp_path / name, {'x': torch.full((2, ), value)}, ['cat'], PALETTE[:2], 0, {'images': name})
        checksums.append(load_weights(tmp_path / name, ['cat'], 0).digest)
        assert load_state(tmp_path / name)['meta']['origin'] == {'images': name}
    assert checksums[0] == checksums[1] != checksums[2]


def test_the_state_of_a_method_comes_back_and_counts_in_the_checksum(tmp_path):
    checksums = []
    for name, value in (('a', 1.), ('b', 2.)):
        save_weights(tmp_path / name, {'x': torch.ones(1)}, [], PALETTE[:1], 0, {}, {'fisher.x': torch.tensor([value])})
        learned = load_weights(tmp_path / name, [], 0)
        assert learned.method_state['fisher.x'].item() == value and learned.state_dict.keys() == {'x'}
        checksums.append(learned.digest)
    assert checksums[0] != checksums[1]


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_found_wherever_it_is(value):
    state = {'a': {'b': [torch.ones(2), torch.tensor([1, 2])], 'c': torch.zeros(2)}, 'lr': .1, 'none': None}
    assert not_finite(state) is None
    state['a']['b'][0][1] = value
    assert not_finite(state) == 'a.b.0'
