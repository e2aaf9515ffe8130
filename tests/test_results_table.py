"""The tables of a sweep."""
import csv
import json

import pytest
from examples import document
from sweeps import TABLE, write_table

from ssul_mmseg.scenario import Scenario
from ssul_mmseg.sweep.plan import make_plan
from ssul_mmseg.sweep.results_table import MEANS, RUNS, write_tables
from ssul_mmseg.sweep.table_file import read_table

VOC = Scenario('15-1', 16)


def finished(folder, text=TABLE, scenario=VOC, shift=float):
    """A plan of which all runs are done; each run's numbers are those of the example and its shift."""
    plan = make_plan(read_table(write_table(folder, text)), folder / 'out')
    for job in plan.cells:
        order = job.options.get('scenario.order')
        job.folder.mkdir(parents=True)
        place = Scenario(scenario.name, scenario.num_classes, order)
        found = document(job.seed, job.row, 'VOC', place, shift=shift(job.seed))
        (job.folder / 'results.json').write_text(json.dumps(found))
        (job.folder / 'run.json').write_text(json.dumps(
            {'method': job.row, **({f'scenario.order.{i}': value for i, value in enumerate(order or ())})}))
    return plan


def lines(path):
    with open(path, newline='') as file:
        return [*csv.DictReader(file)]


def test_means_and_deviations_stand_beside_the_papers_numbers(tmp_path):
    plan = finished(tmp_path, shift=lambda seed: 2. * seed)
    shown = write_tables(plan, plan.cells)
    assert shown == (tmp_path / 'out/table.md').read_text() == '''\
VOC 15-1, overlapped: mIoU in percent

| method |         base |          new |          all | seeds | base (paper) | new (paper) | all (paper) |
|--------|-------------:|-------------:|-------------:|------:|-------------:|------------:|------------:|
| SSUL   | 79.12 ± 2.00 | 43.50 ± 2.00 | 73.19 ± 2.00 |     3 |        77.31 |       36.59 |       67.61 |
| SSUL-M | 79.12 ± 2.00 | 43.50 ± 2.00 | 73.19 ± 2.00 |     3 |        78.36 |       49.01 |       71.37 |
'''
    first, second = lines(tmp_path / 'out' / MEANS.format('table'))
    assert first == {'dataset': 'VOC', 'scenario': '15-1', 'setting': 'overlapped', 'method': 'SSUL', 'runs': '3',
                     'base': '79.123', 'base deviation': '2.0', 'base paper': '77.31', 'new': '43.5',
                     'new deviation': '2.0', 'new paper': '36.59', 'all': '73.186', 'all deviation': '2.0',
                     'all paper': '67.61'}
    assert second['method'] == 'SSUL-M' and second['all paper'] == '71.37'
    runs = lines(tmp_path / 'out' / RUNS.format('table'))
    assert [(run['method'], run['seed'], run['new'], run['folder']) for run in runs] == [
        (job.row, str(job.seed), str(41.5 + 2 * job.seed), str(job.folder)) for job in plan.cells]


def test_a_row_may_say_where_the_papers_numbers_stand(tmp_path):
    text = TABLE.replace("base = 'SSUL'", "paper = ['table3_ablation_voc_15-1', 'no freeze']", 1)
    plan = finished(tmp_path, text)
    shown = write_tables(plan, plan.cells)
    assert '53.56 |       14.48 |       44.25' in shown and '71.37' in shown


def test_the_ablations_numbers_stand_beside_no_other_scenario(tmp_path):
    text = TABLE.replace("base = 'SSUL'", "paper = ['table3_ablation_voc_15-1', 'no freeze']", 1)
    plan = finished(tmp_path, text, Scenario('15-5', 20))
    shown = write_tables(plan, plan.cells)
    # SSUL-M has the paper's numbers of 15-5 beside it, by its name.
    assert 'VOC 15-5' in shown and '44.25' not in shown and '| SSUL-M |' in shown and '78.40' in shown


def test_what_is_not_done_is_counted(tmp_path):
    plan = finished(tmp_path)
    shown = write_tables(plan, plan.cells[:2])
    assert shown.endswith('4 of 6 runs are not done and not in the table.\n') and '|     2 |' in shown


def test_runs_of_several_class_orders_are_averaged_and_listed(tmp_path):
    orders = [[*range(1, 17)], [*range(16, 0, -1)]]
    text = TABLE.replace("seeds = [0, 1, 2]", f'seeds = [1]\norders = {{ a = {orders[0]}, z = {orders[1]} }}')
    plan = finished(tmp_path, text)
    shown = write_tables(plan, plan.cells)
    assert shown.startswith('VOC 15-1, overlapped, several class orders: mIoU in percent')
    assert '| SSUL   | 78.12 ± 0.00 | 42.50 ± 0.00 | 72.19 ± 0.00 |    2 |' in shown and '| runs |' in shown
    assert 'paper' not in shown
    runs = lines(tmp_path / 'out' / RUNS.format('table'))
    assert [run['order'] for run in runs] == [' '.join(map(str, order)) for order in orders] * 2


def test_a_spread_of_one_run_and_a_column_without_numbers_are_empty(tmp_path):
    plan = finished(tmp_path, TABLE.replace('[0, 1, 2]', '[4]'))
    for job in plan.cells:
        path = job.folder / 'results.json'
        content = json.loads(path.read_text())
        content['final']['new'] = None
        path.write_text(json.dumps(content))
    write_tables(plan, plan.cells)
    row = lines(tmp_path / 'out' / MEANS.format('table'))[0]
    assert (row['new'], row['new deviation'], row['all deviation']) == ('', '', '')
    assert float(row['all']) == pytest.approx(75.186)
