import os
import shutil
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from mask_files import held

from ssul_mmseg.datasets import scan
from ssul_mmseg.datasets.class_index import ClassIndex
from ssul_mmseg.errors import InputError


def test_workers_agree(many_masks, tmp_path, capsys):
    one, two, default = (ClassIndex.load(many_masks, tmp_path / f'{name}.npz', workers)
                         for name, workers in (('one', 1), ('two', 2), ('default', None)))
    assert held(one) == [sorted({0, i}) for i in range(250)]
    np.testing.assert_array_equal(one.bits, two.bits)
    np.testing.assert_array_equal(one.bits, default.bits)
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('workers', [1, 2])
def test_first_unreadable_mask_is_named(many_masks, tmp_path, workers):
    for i in (249, 240, 103, 101, 199):
        with open(many_masks[i], 'wb') as file:
            file.write(b'no image')
    for _ in range(3):
        with pytest.raises(InputError, match=r'101\.png'):
            ClassIndex.load(many_masks, tmp_path / 'index.npz', workers)
    assert not (tmp_path / 'index.npz').exists()


def test_error_cancels_what_is_left(tmp_path, monkeypatch):
    """The first mask is damaged; the others are read only after the pool is asked to end."""
    paths = [str(tmp_path / f'{i}.png') for i in range(40)]
    for path in paths:
        open(path, 'wb').close()
    ending = get_context('fork').Event()

    class Pool(ProcessPoolExecutor):
        def shutdown(self, *args, **kwargs):
            ending.set()
            super().shutdown(*args, **kwargs)

    def read_mask(path):
        if path.endswith(os.sep + '0.png'):
            raise InputError(f'mask {path} is damaged')
        ending.wait()
        open(path + '.read', 'wb').close()
        return np.zeros((1, 1), dtype=np.uint8)
    monkeypatch.setattr(scan, 'CHUNK', 1)
    monkeypatch.setattr(scan, 'FEW_MASKS', 1)
    monkeypatch.setattr(scan, 'ProcessPoolExecutor', Pool)
    monkeypatch.setattr(scan, 'read_mask', read_mask)
    with pytest.raises(InputError, match=r'0\.png'):
        ClassIndex.load(paths, tmp_path / 'index.npz', workers=2)
    assert len(list(tmp_path.glob('*.read'))) < 20


def test_killed_worker_is_reported(many_masks, tmp_path, monkeypatch):
    monkeypatch.setattr(scan, 'read_mask', lambda path: os._exit(1))
    with pytest.raises(InputError, match='was killed'):
        ClassIndex.load(many_masks, tmp_path / 'index.npz', workers=2)


def test_the_digest_of_contents_is_that_of_bytes_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, 'MANY_FILES', 2)
    paths = [str(tmp_path / name) for name in 'abcde']
    for path in paths:
        Path(path).write_bytes(path.encode()[-1:] * 3)
    whole = scan.contents_digest(paths)
    os.utime(paths[0], (1, 1))
    (tmp_path / 'copy').mkdir()
    copies = [shutil.copy(path, tmp_path / 'copy') for path in paths]
    assert scan.contents_digest(paths) == scan.contents_digest(copies) == whole
    others = [scan.contents_digest(found) for found in (paths[::-1], paths[:4], [])]
    assert len({whole, *others}) == 4
    for path in paths:
        content, state = Path(path).read_bytes(), os.stat(path)
        Path(path).write_bytes(b'abd')
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # nothing but the content differs
        assert scan.contents_digest(paths) != whole
        Path(path).write_bytes(content)
    os.remove(paths[3])
    with pytest.raises(InputError, match='/d is missing or cannot be read'):
        scan.contents_digest(paths)


def test_first_missing_mask_is_named(masks, tmp_path):
    os.remove(masks[3])
    os.remove(masks[1])
    with pytest.raises(InputError, match=r'1\.png is missing'):
        ClassIndex.load(masks, tmp_path / 'index.npz')


def test_workers_end_with_a_killed_scan(many_masks, tmp_path, monkeypatch):
    def hanging(path):
        (tmp_path / f'worker_{os.getpid()}').touch()
        while True:
            signal.pause()
    monkeypatch.setattr(scan, 'read_mask', hanging)
    process = get_context('fork').Process(target=ClassIndex.load, args=(many_masks, tmp_path / 'index.npz', 2))
    process.start()
    while len(workers := list(tmp_path.glob('worker_*'))) < 2:
        assert process.is_alive()
        time.sleep(.01)
    process.kill()
    process.join()
    # As long as it takes: a worker that goes on for ever is ended with the test.
    while any(lives(worker.name.removeprefix('worker_')) for worker in workers):
        time.sleep(.01)


def lives(process):
    """Whether a process has not ended; what has, and nobody asked about, is a zombie."""
    try:
        return Path('/proc', process, 'stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False
