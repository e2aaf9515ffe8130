"""Workers of a sweep, with a stand-in for training that leaves what training leaves (``sweeps.py``)."""
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweeps import ROOT, TABLE, write_table
from test_lock import held_elsewhere

from ssul_mmseg.sweep import worker
from ssul_mmseg.sweep.plan import make_plan
from ssul_mmseg.sweep.state import CLAIM, states
from ssul_mmseg.sweep.table_file import read_table
from ssul_mmseg.sweep.worker import Worker
from ssul_mmseg.work_dir.layout import LOCK

TRAINER = [sys.executable, str(Path(__file__).with_name('sweeps.py'))]
# A worker in a process of its own: python -c WORKER TABLE FOLDER WAIT TRAINER.
WORKER = '''
import sys
from pathlib import Path
from ssul_mmseg.sweep.plan import make_plan
from ssul_mmseg.sweep.table_file import read_table
from ssul_mmseg.sweep.worker import Worker
table, folder, wait, *trainer = sys.argv[1:]
Worker(make_plan(read_table(table), folder, {'wait': float(wait)}).jobs, trainer, [{}], print).run()
'''


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', f'{ROOT}:{ROOT / "tests"}')
    monkeypatch.setattr(worker, 'POLL', .01)
    monkeypatch.setattr(worker, 'LOOK', .05)


def plan_of(folder, text=TABLE, **options):
    return make_plan(read_table(write_table(folder, text)), folder / 'out', options)


def starts(job):
    """How often a run was started, and from which run."""
    path = job.folder / 'starts'
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def worked(plan, slots=1, jobs=None, show=lambda line: None):
    """A worker that has ended."""
    done = Worker(plan.jobs if jobs is None else jobs, TRAINER, [{}] * slots, show)
    done.run()
    return done


def test_one_worker_runs_every_job_once_the_shared_task_first(tmp_path):
    plan, lines = plan_of(tmp_path), []
    worked(plan, slots=2, show=lines.append)
    assert set(states(plan.jobs).values()) == {'done'}
    for job in plan.jobs:
        assert starts(job) == [str(job.base.folder) if job.base else 'None']
    assert lines[0] == '[0/9 done, 0 at work here, time to go not known yet] the sweep begins'
    assert lines[-1].startswith('[9/9 done, 0 at work here] ') and lines[-1].endswith('is done')
    assert any('1 at work here, ' in line and line.count(' to go]') for line in lines)
    again = []
    worked(plan, show=again.append)
    assert again == ['[9/9 done, 0 at work here] the sweep begins']


def test_a_run_whose_folder_was_deleted_is_reported(tmp_path):
    job = plan_of(tmp_path).bases[0]
    assert worker._last_line(job) == f'its folder {job.folder} is gone'


def test_a_failed_run_is_reported_and_stops_only_what_starts_from_it(tmp_path):
    plan = plan_of(tmp_path, fail=1)
    done = worked(plan)
    assert done.failed == {plan.bases[1]: 'error: mask a.png is empty; replace it (exit code 2)'}
    assert set(done.left) == {plan.cells[1], plan.cells[4]}
    assert [*states(plan.jobs).values()].count('done') == 6
    text = TABLE.replace("base = 'SSUL'\n", "options = { 'fail' = 'all' }\n", 1)
    (tmp_path / 'other').mkdir()
    plan = plan_of(tmp_path / 'other', text)
    done = worked(plan)
    assert set(done.failed) == set(plan.cells[:3]) and not done.left
    # Once more the same command: what has failed is tried again.
    assert set(worked(plan).failed) == set(plan.cells[:3]) and len(starts(plan.cells[0])) == 2


def test_what_is_at_work_elsewhere_is_left_alone_and_its_task_0_is_waited_for(tmp_path):
    plan = plan_of(tmp_path)
    base, cell = plan.bases[0], plan.cells[5]
    for job in (base, cell):
        job.folder.mkdir(parents=True)
    with held_elsewhere(cell.folder / CLAIM), held_elsewhere(plan.cells[4].folder / LOCK):
        other = subprocess.Popen([sys.executable, '-c', f'''
import sys, time, json
from pathlib import Path
from examples import document
from ssul_mmseg.work_dir.lock import take_lock
folder = Path({str(base.folder)!r})
take_lock(folder / {CLAIM!r})
print('held', flush=True)
sys.stdin.readline()
(folder / 'results.json').write_text(json.dumps(document(0, 'SSUL', finished=False)))
'''], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == 'held\n'
        lines = []

        def show(line):
            lines.append(line)
            if line.endswith('seed 1 is done') and line.count('SSUL 4-1'):
                other.stdin.write('\n')
                other.stdin.flush()
        done = worked(plan, show=show)
        other.wait()
        assert not starts(base) and not starts(cell) and not starts(plan.cells[4])
        assert set(done.left) == {cell, plan.cells[4]} and not done.failed
        assert starts(plan.cells[0]) == [str(base.folder)]
        assert any('3 elsewhere' in line for line in lines)


def started(plan, wait):
    """A worker in a process group of its own."""
    command = [sys.executable, '-c', WORKER, plan.folder.parent / 'table.toml', plan.folder, str(wait), *TRAINER]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize('whole', [True, False], ids=['with its run', 'alone'])
def test_a_killed_worker_leaves_its_job_to_others_and_its_run_may_live_on(tmp_path, whole):
    plan = plan_of(tmp_path)
    moment = random.uniform(0, 1.5)
    print(f'killed {moment:.2f} s after its first run has begun')
    killed = started(plan, .3)
    killed.stdout.readline()
    killed.stdout.readline()
    time.sleep(moment)
    other = started(plan, .3)
    (os.killpg if whole else os.kill)(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert other.wait(60) == 0
    restarted = started(plan, .3)
    assert restarted.wait(60) == 0
    time.sleep(.5)  # a run that has outlived its worker
    assert set(states(plan.jobs).values()) == {'done'}
    counts = [len(starts(job)) for job in plan.jobs]
    # One run was killed with its worker and has begun twice; one that lived on has not.
    assert min(counts) == 1 and sum(counts) <= len(plan.jobs) + whole


def test_an_ended_worker_ends_its_run(tmp_path):
    plan = plan_of(tmp_path)
    ended = started(plan, 60)
    ended.stdout.readline()
    ended.stdout.readline()
    while not starts(plan.bases[0]):
        time.sleep(.01)
    assert states(plan.bases[:1])[plan.bases[0]] == 'running'
    ended.send_signal(signal.SIGINT)
    ended.communicate()
    assert states(plan.bases[:1])[plan.bases[0]] == 'to do'


def test_each_process_has_the_variables_of_its_slot(tmp_path, monkeypatch):
    plan, seen = plan_of(tmp_path), []
    popen = subprocess.Popen

    def noted(command, env, **others):
        seen.append(env['CUDA_VISIBLE_DEVICES'])
        return popen(command, env=env, **others)
    monkeypatch.setattr(worker.subprocess, 'Popen', noted)
    Worker(plan.jobs, TRAINER, [{'CUDA_VISIBLE_DEVICES': '3'}, {'CUDA_VISIBLE_DEVICES': '5'}], seen.append).run()
    devices = [value for value in seen if value in ('3', '5')]
    assert len(devices) == 9 and set(devices) == {'3', '5'}
