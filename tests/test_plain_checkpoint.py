"""Checkpoints of mmseg's own are read without running code in them."""
import pickle

import pytest
import torch

from ssul_mmseg.engine.plain_checkpoint import read_plain_checkpoint
from ssul_mmseg.errors import InputError

STATE = {'decode_head.conv_seg.bias': torch.zeros(3)}


class Callable:
    """Leaves a mark where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, 'w')


def written(tmp_path, content):
    torch.save(content, tmp_path / 'a.pth')
    return tmp_path / 'a.pth'


@pytest.mark.parametrize(('meta', 'classes'), [
    ({}, None), ({'dataset_meta': {'classes': ('sky', 'road')}}, ['sky', 'road']), ({'CLASSES': ('a', )}, ['a']),
    ({'dataset_meta': {'classes': None}}, None)])
def test_names_are_those_of_mmseg_1_or_0(tmp_path, meta, classes):
    found = read_plain_checkpoint(written(tmp_path, {'state_dict': STATE, 'meta': meta}), False)
    assert found.classes == classes and found.state.keys() == STATE.keys() and found.network is None


def test_the_prefix_of_ddp_goes_and_a_bare_state_dict_will_do(tmp_path):
    found = read_plain_checkpoint(written(tmp_path, {f'module.{key}': value for key, value in STATE.items()}), False)
    assert found.state.keys() == STATE.keys()


def test_a_config_is_read_and_not_run(tmp_path):
    mark = tmp_path / 'mark'
    text = "a = 1\nmodel = dict(type='EncoderDecoder', backbone=dict(strides=(1, -2), x={'a': [None, True, .5]}))\n"
    found = read_plain_checkpoint(written(tmp_path, {'state_dict': STATE, 'meta': {'cfg': text}}), False)
    assert found.network == dict(type='EncoderDecoder', backbone=dict(strides=(1, -2), x={'a': [None, True, .5]}))
    opened = f"open('{mark}', 'w')"
    for text in (f'model = {opened}', f'model = dict(a={opened})', 'model = dict(', 'model = 3', 'x'):
        meta = {'cfg': f'import os\n{text}'}
        assert read_plain_checkpoint(written(tmp_path, {'state_dict': STATE, 'meta': meta}), False).network is None
    assert not mark.exists()


def test_unpickling_needs_trust(tmp_path):
    mark = tmp_path / 'mark'
    path = written(tmp_path, {'state_dict': STATE, 'optimizer': Callable(str(mark))})
    with pytest.raises(InputError, match=r'unpickling it could run code.*--trust-pickled-weights'):
        read_plain_checkpoint(path, False)
    assert not mark.exists()
    assert read_plain_checkpoint(path, True).state.keys() == STATE.keys() and mark.exists()


@pytest.mark.parametrize(('content', 'message'), [
    ({'a': 1}, 'holds no weights'), ([1], 'holds no weights'),
    ({'state_dict': {'a': torch.tensor([1., torch.nan])}}, 'NaN or infinite, in a')])
def test_what_is_no_checkpoint_is_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_plain_checkpoint(written(tmp_path, content), False)


def test_a_missing_and_a_torn_file_are_refused(tmp_path):
    with pytest.raises(InputError, match='there is no checkpoint'):
        read_plain_checkpoint(tmp_path / 'a.pth', False)
    (tmp_path / 'a.pth').write_bytes(pickle.dumps('x')[:3])
    for trusted in (False, True):
        with pytest.raises(InputError, match=r'a\.pth (is damaged|cannot be loaded)'):
            read_plain_checkpoint(tmp_path / 'a.pth', trusted)
