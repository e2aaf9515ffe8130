import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_files import HELD, held, index_of, write_mask

from ssul_mmseg.datasets import class_index, scan
from ssul_mmseg.datasets.class_index import ClassIndex
from ssul_mmseg.errors import InputError


@pytest.fixture
def scans(monkeypatch):
    """The masks that are read from now on, in order."""
    read = []

    def read_mask(path):
        read.append(path)
        return real(path)

    real = scan.read_mask
    monkeypatch.setattr(scan, 'read_mask', read_mask)
    return read


@pytest.fixture
def messages(monkeypatch):
    printed = []
    monkeypatch.setattr(class_index, 'print_log', lambda message, **_: printed.append(message))
    return printed


def test_queries_by_hand():
    index = index_of(HELD)
    assert index.bits.shape == (4, 32)
    assert index.bits[1].tolist() == [0b11000000, *[0] * 30, 1]
    assert len(index) == 4
    assert held(index) == HELD
    assert {value: n for value, n in enumerate(index.counts()) if n} == {0: 3, 1: 2, 5: 2, 254: 1, 255: 1}
    assert index.counts().dtype == np.int64
    assert index.with_any([1, 254]).tolist() == [False, True, False, True]
    assert index.with_any([]).tolist() == [False] * 4
    assert index.with_only([0, 1, 255]).tolist() == [True, True, False, False]
    assert index.with_only([]).tolist() == [False] * 4
    assert index.with_only(range(256)).tolist() == [True] * 4


def test_image_without_values_holds_nothing_but_anything():
    index = index_of([[], [3]], num_values=4)
    assert index.with_only([]).tolist() == [True, False]
    assert index.with_any(range(4)).tolist() == [False, True]


@settings(max_examples=150)
@given(st.data())
def test_queries_equal_set_computations(data):
    num_values = data.draw(st.sampled_from([1, 7, 8, 9, 21, 256, 1001]))
    value = st.integers(0, num_values - 1)
    images = data.draw(st.lists(st.frozensets(value, max_size=6), max_size=30))
    query = data.draw(st.frozensets(value, max_size=12))
    rows = class_index.ROWS
    class_index.ROWS = data.draw(st.sampled_from([1, 7, rows]))
    try:
        index = index_of(images, num_values)
        assert held(index) == [sorted(image) for image in images]
        assert index.with_any(query).tolist() == [bool(image & query) for image in images]
        assert index.with_only(query).tolist() == [image <= query for image in images]
        assert index.counts().tolist() == [sum(v in image for image in images) for v in range(num_values)]
    finally:
        class_index.ROWS = rows


def test_wrong_bits_and_values_are_refused():
    for bits in (np.zeros((2, 3)), np.zeros(3, dtype=np.uint8)):
        with pytest.raises(InputError, match='must be uint8'):
            ClassIndex(bits)
    with pytest.raises(InputError, match='needs 2 bytes'):
        ClassIndex(np.zeros((2, 3), dtype=np.uint8), num_values=9)
    with pytest.raises(InputError, match='above 8'):
        ClassIndex(np.array([[0, 0b01000000]], dtype=np.uint8), num_values=9)
    for value in (-1, 21):
        with pytest.raises(InputError, match=f'value {value} is outside'):
            index_of([[0]], num_values=21).with_any([value])


def test_masks_are_scanned_once(masks, tmp_path, scans):
    cache = tmp_path / 'cache' / 'index.npz'
    assert held(ClassIndex.load(masks, cache)) == HELD
    assert scans == masks
    assert held(ClassIndex.load(masks, cache)) == HELD
    assert scans == masks
    assert os.listdir(cache.parent) == ['index.npz']


def test_no_masks(tmp_path):
    assert len(ClassIndex.load([], tmp_path / 'index.npz')) == 0
    assert ClassIndex.load([], tmp_path / 'index.npz').counts().sum() == 0


def test_changed_touched_added_and_reordered_masks_are_noticed(masks, tmp_path, scans):
    cache = tmp_path / 'index.npz'
    ClassIndex.load(masks, cache)
    modified, size = os.stat(masks[2]).st_mtime_ns, os.stat(masks[2]).st_size
    write_mask(masks[2], [6])
    assert os.stat(masks[2]).st_size == size
    os.utime(masks[2], ns=(modified, modified + 1))
    assert held(ClassIndex.load(masks, cache)) == [*HELD[:2], [6], HELD[3]]

    with open(masks[2], 'ab') as file:
        file.write(b'\0')
    os.utime(masks[2], ns=(modified, modified + 1))
    scans.clear()
    ClassIndex.load(masks, cache)
    assert scans == masks

    write_mask(tmp_path / 'new.png', [9])
    assert held(ClassIndex.load([*masks, str(tmp_path / 'new.png')], cache))[-1] == [9]
    assert held(ClassIndex.load(masks[:2], cache)) == HELD[:2]
    assert held(ClassIndex.load(masks[1::-1], cache)) == HELD[1::-1]


def test_same_names_in_another_folder_are_other_masks(masks, tmp_path, monkeypatch):
    shutil.copytree(tmp_path / 'masks', tmp_path / 'others' / 'masks')
    other = tmp_path / 'others' / 'masks' / '0.png'
    write_mask(other, [7])
    shutil.copystat(masks[0], other)
    relative = [os.path.relpath(path, tmp_path) for path in masks]
    monkeypatch.chdir(tmp_path)
    assert held(ClassIndex.load(relative, tmp_path / 'index.npz')) == HELD
    monkeypatch.chdir(tmp_path / 'others')
    assert held(ClassIndex.load(relative, tmp_path / 'index.npz'))[0] == [7]


def test_torn_cache_is_noticed(masks, tmp_path, messages):
    cache = tmp_path / 'index.npz'
    ClassIndex.load(masks, cache)
    content = cache.read_bytes()
    assert not messages
    lengths = [0, 1, 4, *range(5, len(content) - 1, 97), len(content) - 1]
    for number, length in enumerate(lengths, start=1):
        cache.write_bytes(content[:length])
        assert held(ClassIndex.load(masks, cache)) == HELD
        assert len(messages) == number
        assert str(cache) in messages[-1]
        ClassIndex.load(masks, cache)
        assert len(messages) == number


def test_flipped_byte_never_changes_the_index(masks, tmp_path):
    cache = tmp_path / 'index.npz'
    index = ClassIndex.load(masks, cache)
    _, fingerprint = ClassIndex.read(cache)
    content = cache.read_bytes()
    noticed = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        cache.write_bytes(damaged)
        try:
            found, source = ClassIndex.read(cache)
        except InputError:
            noticed += 1
        else:
            assert found.bits.tobytes() == index.bits.tobytes()
            assert source == fingerprint
    assert noticed > len(content) // 2


def test_checksum_guards_the_payload_beside_the_zip(masks, tmp_path, messages):
    cache = tmp_path / 'index.npz'
    ClassIndex.load(masks, cache)
    with np.load(cache) as file:
        arrays = dict(file)
    arrays['bits'][0, 0] ^= 1
    np.savez(cache, **arrays)
    assert held(ClassIndex.load(masks, cache)) == HELD
    assert 'checksum' in messages[0]


def test_other_versions_shapes_and_pickles_are_not_used(masks, tmp_path, messages, scans, monkeypatch):
    cache = tmp_path / 'index.npz'
    with monkeypatch.context() as patch:
        patch.setattr(class_index, 'FORMAT', 0)
        ClassIndex.load(masks, cache)
    assert held(ClassIndex.load(masks, cache)) == HELD
    assert 'version 0' in messages[0]

    _, fingerprint = ClassIndex.read(cache)
    index_of([[0]] * 3).write(cache, fingerprint)
    assert held(ClassIndex.load(masks, cache)) == HELD

    for arrays in (dict(bits=np.array([{}], dtype=object)), dict(other=1)):
        np.savez(cache, **arrays)
        assert held(ClassIndex.load(masks, cache)) == HELD
    assert scans == 5 * masks


@pytest.mark.parametrize('num_values', [256, 1001])
def test_read_gives_back_what_was_written(tmp_path, num_values):
    index = index_of([[0, num_values - 1], [], [3]], num_values)
    index.write(tmp_path / 'index.npz', 'a fingerprint')
    found, fingerprint = ClassIndex.read(tmp_path / 'index.npz')
    assert fingerprint == 'a fingerprint'
    assert found.num_values == num_values
    assert held(found) == held(index)
    with pytest.raises(InputError, match='cannot be read'):
        ClassIndex.read(tmp_path / 'missing.npz')


@pytest.mark.parametrize('place', ['file/index.npz', 'folder.npz'])
def test_cache_that_cannot_be_written_costs_a_warning(masks, tmp_path, messages, place):
    (tmp_path / 'file').touch()
    (tmp_path / 'folder.npz').mkdir()
    assert held(ClassIndex.load(masks, tmp_path / place)) == HELD
    assert f'{tmp_path / place} cannot be written' in messages[-1]


def test_failed_write_leaves_the_old_cache(masks, tmp_path, messages, monkeypatch):
    cache = tmp_path / 'index.npz'
    ClassIndex.load(masks, cache)
    content = cache.read_bytes()

    def savez(file, **_):
        file.write(content[:100])
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(np, 'savez', savez)
    assert held(ClassIndex.load(masks[:2], cache)) == HELD[:2]
    assert 'No space left' in messages[0]
    assert cache.read_bytes() == content
    assert sorted(os.listdir(tmp_path)) == ['index.npz', 'masks']
