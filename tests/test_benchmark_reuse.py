"""The benchmark of reused memory."""
import pytest
from speed.report import SECTIONS
from speed.reuse import ITERATIONS, METHODS, measure_reuse, repeat
from speed.settings import TINY, Options
from test_machine import PAGES, REUSES, faults_of_a_new_tensor
from tiny import ROOT

from ssul_mmseg.machine import reused_memory


@pytest.mark.skipif(not REUSES, reason='for CPUs and glibc, where pages are counted')
def test_iterations_run_inside_of_the_context():
    counts = []
    repeat(lambda: counts.append(faults_of_a_new_tensor()), reused_memory)
    assert len(counts) == ITERATIONS and min(counts) < .1 * PAGES


def test_methods_are_compared_with_themselves():
    result = measure_reuse(Options(ROOT / 'configs', TINY, 'cpu'))
    assert list(result['speedup']) == list(METHODS) and len(result['seconds']) == 2 * len(METHODS)
    times = result['seconds']
    assert result['speedup']['mib'] == times['mib']['median'] / times['mib, reused']['median']
    lines = SECTIONS['reuse'](result)
    assert sum(line.startswith('| mib') for line in lines) == 2
