"""The tool that runs a table, on tiny real runs."""
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from sweeps import ROOT, TABLE, write_table
from test_lock import held_elsewhere

from ssul_mmseg import cli
from ssul_mmseg.commands import sweep
from ssul_mmseg.errors import InputError
from ssul_mmseg.sweep.plan import make_plan
from ssul_mmseg.sweep.state import states
from ssul_mmseg.sweep.table_file import read_table
from ssul_mmseg.work_dir.layout import LOCK

VOC = TABLE.replace('shapes_4-1', 'voc_15-1').replace('4-1', '19-1')


def test_bad_tables_and_arguments_end_with_a_sentence_and_code_2(tmp_path, capsys, monkeypatch):
    bad = {'key': TABLE.replace('seeds', 'sedes'), 'config': TABLE.replace('shapes_4-1_m', 'shapes_9-9'),
           'doubled': TABLE.replace('SSUL-M', 'SSUL'), 'option': TABLE + "options = { 'model.taw' = 1 }\n"}
    for name, text in bad.items():
        monkeypatch.setattr(sys, 'argv', ['sweep.py', str(write_table(tmp_path, text))])
        with pytest.raises(SystemExit) as end:
            cli.run(lambda argv: sweep.main(sys.argv[1:]))
        errors = capsys.readouterr().err
        assert (end.value.code, errors.count('\n'), errors[:7]) == (2, 1, 'error: '), name
    table = str(write_table(tmp_path))
    for option, value in (('--shard', '0/2'), ('--shard', '3/2'), ('--gpus', 'a'), ('--jobs', '0'), ('--submit', '0')):
        with pytest.raises(InputError, match=option):
            sweep.main([table, option, value])


def test_a_list_shows_the_state_and_the_command_of_every_run_and_runs_none(tmp_path, capsys):
    table = str(write_table(tmp_path))
    plan = make_plan(read_table(table), tmp_path / 'out')
    plan.bases[2].folder.mkdir(parents=True)
    with held_elsewhere(plan.bases[2].folder / LOCK):
        sweep.main([table, '--work-dir', str(tmp_path / 'out'), '--list', '--cfg-options', 'data_root=my data'])
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == '9 runs: 1 running, 2 to do, 6 waiting'
    assert printed[0] == 'to do   task 0 of SSUL 4, seed 0' and printed[4].startswith('running task 0')
    assert printed[1].startswith(f'        ssul train {ROOT}/configs/ssul/shapes_4-1.py --work-dir')
    assert "'data_root=my data'" in printed[1] and len(printed) == 9 * 2 + 1
    assert not list(tmp_path.glob('out/*/*/*/*.json'))


def test_a_submitted_worker_is_this_command_in_a_process_of_its_own(tmp_path, monkeypatch):
    table, commands = str(write_table(tmp_path)), []

    def submit_workers(command, number, folder, parameters):
        commands.append((command, number))
        return []
    monkeypatch.setattr(sweep, 'submit_workers', submit_workers)
    sweep.main([table, '--submit', '3', '--stage', 'cells', '--shard', '1/2', '--cfg-options', 'data_root=my data'])
    [(command, number)] = commands
    assert number == 3
    # Only the work dir of the table is given from where the command is started.
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([*command, '--list'], cwd=tmp_path, capture_output=True, text=True, env=environment)
    listed = done.stdout.splitlines()
    assert listed[-1] == '3 runs: 3 waiting' and all("'data_root=my data'" in line for line in listed[1:-1:2]), done
    # A run is a process of the same kind.
    done = subprocess.run([*sweep.SSUL, 'train', '--help'], cwd=tmp_path, capture_output=True, text=True,
                          env=environment)
    assert done.stdout.startswith('usage: ssul train ')


def test_shards_and_stages_share_out_all_runs(tmp_path):
    plan = make_plan(read_table(write_table(tmp_path)), tmp_path)
    jobs_of = sweep.jobs_of
    assert jobs_of(plan, 'all', '1/1') == plan.jobs
    parts = [jobs_of(plan, 'all', f'{i}/4') for i in (1, 2, 3, 4)]
    assert [[job for job in part if not job.trains_base] for part in parts] == [
        [plan.cells[0], plan.cells[4]], [plan.cells[1], plan.cells[5]], [plan.cells[2]], [plan.cells[3]]]
    # Each part holds what its cells start from, first.
    assert [[job for job in part if job.trains_base] for part in parts] == [
        [plan.bases[0], plan.bases[1]], [plan.bases[1], plan.bases[2]], [plan.bases[2]], [plan.bases[0]]]
    assert [jobs_of(plan, 'base', f'{i}/2') for i in (1, 2)] == [plan.bases[::2], plan.bases[1::2]]
    assert jobs_of(plan, 'cells', '2/2') == plan.cells[1::2]


def test_runs_at_once_are_those_asked_for_or_one_for_each_gpu():
    slots_of, gpu = sweep.slots_of, 'CUDA_VISIBLE_DEVICES'
    assert slots_of(None, None) == [{}] and slots_of(None, 3) == [{}] * 3
    assert slots_of('0,2', None) == [{gpu: '0'}, {gpu: '2'}]
    assert slots_of('0,2', 3) == [{gpu: '0'}, {gpu: '2'}, {gpu: '0'}]


def test_cells_whose_task_0_is_not_there_are_reported(tmp_path, capsys):
    table = str(write_table(tmp_path, TABLE.replace('[0, 1, 2]', '[5]')))
    with pytest.raises(SystemExit) as end:
        sweep.main([table, '--work-dir', str(tmp_path / 'out'), '--stage', 'cells'])
    errors = capsys.readouterr().err
    assert end.value.code == 1
    assert 'not begun: SSUL-M 4-1, seed 5 starts from task 0 of SSUL 4, seed 5, which is not done' in errors


@contextlib.contextmanager
def worker(table, folder, log, options):
    """A worker in a process group of its own, which ends with the test."""
    command = [sys.executable, 'tools/sweep.py', table, '--work-dir', folder, '--cfg-options', *options]
    with open(log, 'w') as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True,
                                   env={**os.environ, 'PYTHONPATH': str(ROOT), 'CUDA_VISIBLE_DEVICES': ''})
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def results(folder):
    """A run's results without times, memory and the config's path."""
    document = json.loads((folder / 'results.json').read_text())
    document.pop('config')
    for entry in document['tasks']:
        for measured in ('seconds', 'peak_memory'):
            entry.pop(measured)
    return document


@pytest.mark.slow
def test_two_workers_one_killed_and_restarted_end_in_the_numbers_of_one_run_after_the_other(tmp_path):
    """Six cells and the task 0 that they share by three; the expected runs share nothing and are one process's."""
    from tiny import tiny_config, tiny_options, voc_tree

    from ssul_mmseg.engine.scenario_loop import run_scenario
    tree = voc_tree(tmp_path / 'voc', 24)
    options = {**tiny_options(tree), 'train_cfg.max_epochs': 1}
    text = VOC.replace("voc_15-1_m.py'\n", "voc_15-1_m.py'\noptions = { 'memory.size' = 8 }\n")
    table = write_table(tmp_path, text)
    shown = [f'{key}={cli.option_text(value)}' for key, value in options.items()]
    place = random.randrange(4), random.uniform(0, 8)
    print(f'killed {place[1]:.1f} s after run {place[0]} of this worker began')
    logs = [tmp_path / f'{name}.log' for name in ('killed', 'other', 'restarted')]
    with contextlib.ExitStack() as stack:
        killed, other = (stack.enter_context(worker(table, tmp_path / 'out', log, shown)) for log in logs[:2])
        while logs[0].read_text().count('begins\n') <= place[0] and killed.poll() is None:
            time.sleep(.05)
        time.sleep(place[1])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(killed.pid, signal.SIGKILL)
        restarted = stack.enter_context(worker(table, tmp_path / 'out', logs[2], shown))
        assert (restarted.wait(), other.wait()) == (0, 0), logs[1].read_text() + logs[2].read_text()
    plan = make_plan(read_table(table), tmp_path / 'out')
    assert set(states(plan.jobs).values()) == {'done'} and len(plan.bases) == 3
    told = ''.join(log.read_text() for log in logs)
    begun = [told.count(f'] {job.title} begins\n') for job in plan.jobs]
    assert min(begun) == 1 and sum(begun) <= 9 + 1, told
    for job in plan.cells:
        extra = {'memory.size': 8} if job.row == 'SSUL-M' else {}
        values = {'train_cfg.max_epochs': 1, 'scenario.name': '19-1', 'method': job.row, 'randomness.seed': job.seed}
        run_scenario(tiny_config(tree, tmp_path / 'alone' / job.title, job.config, **values, **extra))
        assert results(job.folder) == results(tmp_path / 'alone' / job.title)
    last = max(logs[1:], key=lambda log: log.stat().st_mtime).read_text()
    assert '| SSUL-M |' in last and (tmp_path / 'out/table.md').read_text() in last
