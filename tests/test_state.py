"""What the work dirs of a sweep say of its runs."""
import json

import pytest
from examples import document
from sweeps import TABLE, write_table
from test_lock import held_elsewhere

from ssul_mmseg.sweep.plan import make_plan
from ssul_mmseg.sweep.state import CLAIM, seconds_of, states, time_to_go
from ssul_mmseg.sweep.table_file import read_table
from ssul_mmseg.work_dir.layout import LOCK


@pytest.fixture
def plan(tmp_path):
    return make_plan(read_table(write_table(tmp_path)), tmp_path / 'out')


def write_results(job, finished=True):
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / 'results.json').write_text(json.dumps(document(job.seed, job.row, finished=finished)))


def test_a_run_is_done_with_its_last_task_and_took_what_it_trained_itself(plan):
    base, cell = plan.bases[0], plan.cells[0]
    assert seconds_of(base) is seconds_of(cell) is None
    write_results(base, finished=False)
    write_results(cell, finished=False)
    assert (seconds_of(base), seconds_of(cell)) == (90., None)  # the two tasks of the example took 90 and 12 seconds
    write_results(cell)
    assert seconds_of(cell) == 12.
    text = TABLE.replace("base = 'SSUL'", '')
    alone = make_plan(read_table(write_table(plan.folder.parent, text)), plan.folder).cells[0]
    assert seconds_of(alone) == pytest.approx(102.)
    (cell.folder / 'results.json').write_text('{"torn')
    assert seconds_of(cell) is None


def test_states_of_runs(plan, tmp_path):
    for job in plan.jobs:
        job.folder.mkdir(parents=True)
    write_results(plan.bases[0], finished=False)
    write_results(plan.cells[3])
    with held_elsewhere(plan.bases[1].folder / LOCK), held_elsewhere(plan.cells[0].folder / CLAIM):
        found = states(plan.jobs)
    expected = {plan.bases[0]: 'done', plan.bases[1]: 'running', plan.bases[2]: 'to do', plan.cells[0]: 'running',
                plan.cells[1]: 'waiting', plan.cells[2]: 'waiting', plan.cells[3]: 'done', plan.cells[4]: 'waiting',
                plan.cells[5]: 'waiting'}
    assert found == expected
    assert states(plan.jobs)[plan.bases[1]] == 'to do'


def test_time_to_go_is_that_of_finished_runs_of_the_row_then_of_the_stage(plan):
    bases, cells = plan.bases, plan.cells
    assert time_to_go(cells, {}, 1) is None
    took = {bases[0]: 100., cells[0]: 10., cells[1]: 20.}
    # A base as the other; a cell of the first row 15, of the second, of which none is done, as all cells.
    assert time_to_go([bases[1], cells[2], cells[3]], took, 1) == 100 + 15 + 15
    took[cells[4]] = 60.
    assert time_to_go([cells[2], cells[3]], took, 2) == (15 + 60) / 2
    assert time_to_go([cells[0]], {bases[0]: 100.}, 1) == 100.
