"""What one process does for all."""
import contextlib

import pytest

from ssul_mmseg.engine.processes import on_main_process, on_main_process_only
from ssul_mmseg.errors import InputError


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
