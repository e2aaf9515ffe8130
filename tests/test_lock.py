"""Locks: one process has them, others are kept out and can ask."""
import contextlib
import os
import subprocess
import sys

import pytest

from ssul_mmseg.errors import InputError
from ssul_mmseg.work_dir.lock import is_locked, lock_work_dir, take_lock


def second_run(work_dir):
    code = f'from ssul_mmseg.work_dir.lock import lock_work_dir\nwith lock_work_dir({str(work_dir)!r}): print("in")'
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)


@contextlib.contextmanager
def held_elsewhere(path):
    """The lock of a file, held by another process; it is killed at the end."""
    code = ('from pathlib import Path\nfrom ssul_mmseg.work_dir.lock import take_lock\n'
            f'take_lock(Path({str(path)!r}))\nprint("held", flush=True)\ninput()')
    holder = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == 'held\n'
    try:
        yield
    finally:
        holder.kill()
        holder.communicate()


def test_a_lock_keeps_another_process_out_and_goes_with_its_own(tmp_path):
    with lock_work_dir(tmp_path / 'run'):
        kept_out = second_run(tmp_path / 'run')
        assert kept_out.returncode != 0 and 'another run is at work in' in kept_out.stderr
    assert second_run(tmp_path / 'run').stdout == 'in\n'


def test_a_work_dir_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=r'work dir .*file/run cannot be written \(Not a directory\)'), \
            lock_work_dir(tmp_path / 'file/run'):
        pass


def test_to_ask_is_in_nobodys_way(tmp_path):
    path = tmp_path / 'run/.lock'
    assert not is_locked(path) and not path.exists()
    with held_elsewhere(path):
        assert is_locked(path) and is_locked(path) and take_lock(path) is None
    assert not is_locked(path)
    lock = take_lock(path)
    assert lock is not None
    os.close(lock)
