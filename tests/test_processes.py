"""The lock of a work dir, and what one process does for all."""
import contextlib
import subprocess
import sys

import pytest

from ssul_mmseg.engine.processes import lock_work_dir, on_main_process, on_main_process_only
from ssul_mmseg.errors import InputError


def second_run(work_dir):
    code = f'from ssul_mmseg.engine.processes import lock_work_dir\nwith lock_work_dir({str(work_dir)!r}): print("in")'
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)


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


def test_result_and_error_of_the_main_process_reach_its_caller():
    assert on_main_process(lambda: {'a': 1}) == {'a': 1}

    def fail():
        raise InputError('mask a.png is empty; replace it')
    with pytest.raises(InputError, match=r'mask a\.png is empty'):
        on_main_process(fail)


def test_a_context_of_the_main_process_is_left_again():
    steps = []

    @contextlib.contextmanager
    def manager():
        steps.append('in')
        yield
        steps.append('out')
    with on_main_process_only(manager):
        assert steps == ['in']
    assert steps == ['in', 'out']
