"""Workers that submitit starts, on this machine instead of a cluster."""
import sys

import pytest

from ssul_mmseg.errors import InputError
from ssul_mmseg.sweep.submit import submit_workers

pytest.importorskip('submitit', reason='the extra cluster is not installed')


def test_each_worker_runs_the_command(tmp_path):
    code = f'import os; open({str(tmp_path)!r} + f"/{{os.getpid()}}.txt", "w")'
    jobs = submit_workers([sys.executable, '-c', code], 2, tmp_path / 'sweep', {'timeout_min': 5}, cluster='local')
    for job in jobs:
        job.result()
    assert len(list(tmp_path.glob('*.txt'))) == len({job.job_id for job in jobs}) == 2


@pytest.mark.parametrize('name', ['timeout_mni', 'slurm_partitoin'])
def test_a_parameter_that_submitit_does_not_know_is_one_sentence(tmp_path, name):
    with pytest.raises(InputError, match=f'--submit-options {name} cannot be used'):
        submit_workers(['true'], 1, tmp_path, {name: 5}, cluster='local')


def test_without_submitit_a_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'submitit', None)
    with pytest.raises(InputError, match=r'--submit needs submitit; install it .*\[cluster\]'):
        submit_workers(['true'], 1, tmp_path, {})
