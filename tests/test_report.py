import copy
import json

import pytest
from tiny import ROOT

from ssul_mmseg.errors import InputError
from ssul_mmseg.report.collect import compare, paper_numbers, read_results, results_document, task_entry
from ssul_mmseg.report.tables import class_list, comparison_table, number, scenario_table, spread, table, task_table
from ssul_mmseg.tasks import Scenario

SCENARIO = Scenario('4-1', 5)
BASE = dict(
    mIoU_base=80.0, mIoU_new=None, mIoU_all=80.0, mIoU_base_no_background=75.0, mIoU_all_no_background=75.0,
    forgetting=None, forgetting_per_task=[],
    IoU=dict(background=100.0, circle=90.0, square=80.0, star=70.0, ring=60.0))
LAST = dict(
    mIoU_base=77.123, mIoU_new=41.5, mIoU_all=71.186, mIoU_base_no_background=71.4, mIoU_all_no_background=65.42,
    forgetting=3.6, forgetting_per_task=[3.6],
    IoU=dict(background=100.0, circle=90.0, square=80.0, star=None, ring=57.5, cross=41.5))


def document(seed=0, method='SSUL-M', dataset='shapes', scenario=SCENARIO, finished=True, shift=0.0):
    last = LAST | {f'mIoU_{column}': LAST[f'mIoU_{column}'] + shift for column in ('base', 'new', 'all')}
    tasks = [task_entry(0, ['circle', 'square', 'star', 'ring'], 600, 0, BASE, 90.0),
             task_entry(1, ['cross'], 150, 20, last, 12.04)]
    return results_document('configs/x.py', dataset, scenario, 'overlapped', method, seed, tasks[:1 + finished])


@pytest.fixture
def save(tmp_path):
    def write(content, name='results.json'):
        (tmp_path / name).write_text(json.dumps(content))
        return str(tmp_path / name)
    return write


def test_document_holds_entries_versions_and_final():
    result = document()
    assert result['schema'] == 1 and result['scenario'] == '4-1' and result['seed'] == 0
    assert set(result['versions']) == {'python', 'torch', 'mmcv', 'mmengine', 'mmseg', 'numpy', 'ssul_mmseg'}
    assert result['tasks'][1] == dict(
        task=1, classes=['cross'], num_images=150, memory=20, IoU=LAST['IoU'],
        mIoU=dict(base=77.123, new=41.5, all=71.186), mIoU_no_background=dict(base=71.4, new=41.5, all=65.42),
        forgetting=3.6, forgetting_per_task=[3.6], seconds=12.0)
    assert result['final'] == dict(base=77.123, new=41.5, all=71.186)


def test_an_unfinished_run_has_no_final():
    assert document(finished=False)['final'] == dict(base=None, new=None, all=None)
    assert results_document('c', 'd', SCENARIO, 'disjoint', 'm', 0, [])['final']['all'] is None


def test_results_survive_writing_and_reading(save, tmp_path):
    path = save(document())
    assert read_results(path) == read_results(tmp_path) == document()


@pytest.mark.parametrize(('change', 'message'), [
    (lambda d: d.pop('schema'), 'no result file of schema 1'),
    (lambda d: d.update(schema=2), 'no result file of schema 1'),
    (lambda d: d.pop('seed'), 'seed is missing'),
    (lambda d: d.update(seed='0'), "seed is '0', not int"),
    (lambda d: d.update(final=5), 'final is 5, not dict'),
    (lambda d: d['final'].pop('new'), r'final\.new is missing'),
    (lambda d: d.update(tasks={}), r'tasks is \{\}, not list'),
    (lambda d: d['tasks'][1].pop('memory'), r'tasks\.1\.memory is missing'),
    (lambda d: d['tasks'][1]['mIoU'].update(base='high'), r"tasks\.1\.mIoU\.base is 'high', not int or float or null"),
    (lambda d: d['tasks'][0]['IoU'].update(ring=[1]), r'tasks\.0\.IoU\.ring is \[1\]'),
    (lambda d: d['tasks'][0].update(seconds=None), r'tasks\.0\.seconds is None, not int or float'),
    (lambda d: d['tasks'][0]['classes'].append(3), r'tasks\.0\.classes\.4 is 3, not str'),
])
def test_schema_faults_name_file_and_value(save, change, message):
    content = copy.deepcopy(document())
    change(content)
    with pytest.raises(InputError, match=rf'results\.json.*{message}'):
        read_results(save(content))


@pytest.mark.parametrize(('text', 'message'), [('[]', 'no result file'), ('{"schema": 1', 'not whole JSON')])
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / 'other.json'
    path.write_text(text)
    with pytest.raises(InputError, match=rf'other\.json.*{message}'):
        read_results(path)
    with pytest.raises(InputError, match='cannot read'):
        read_results(tmp_path / 'nowhere.json')


def test_numbers_have_the_papers_two_decimals():
    assert [number(x) for x in (71.186, 0, None, -0.001, -1.5)] == ['71.19', '0.00', 'n/a', '0.00', '-1.50']


def test_spread_uses_n_minus_1():
    assert spread([1.0, 2.0, 4.0]) == '2.33 ± 1.53'  # sqrt((16 + 1 + 25) / 9 / 2)
    assert spread([71.0]) == spread([71.0, None]) == '71.00'
    assert spread([None]) == spread([]) == 'n/a'


def test_long_class_lists_are_shortened():
    assert class_list(['a', 'b', 'c']) == 'a, b, c'
    assert class_list(['a', 'b', 'c', 'd', 'e']) == 'a, b, c and 2 more'


def test_a_bar_in_a_name_does_not_end_its_cell():
    assert table(('a', 'b'), [('x|y', '1')]).splitlines()[-1] == r'| x\|y | 1 |'


def test_scenario_table_exactly():
    assert scenario_table(document()) == '''\
SSUL-M on shapes 4-1, overlapped, seed 0: mIoU in percent

| task | classes                         | images | memory |  base |   new |   all | forgetting | minutes |
|------|---------------------------------|-------:|-------:|------:|------:|------:|-----------:|--------:|
| 0    | circle, square, star and 1 more |    600 |      0 | 80.00 |   n/a | 80.00 |        n/a |    1.50 |
| 1    | cross                           |    150 |     20 | 77.12 | 41.50 | 71.19 |       3.60 |    0.20 |

Forgetting: points lost since a class was learned, the mean over the old classes; negative is a gain.

IoU in percent after task 1:

| class      |    IoU | class  |   IoU | class  |   IoU | class | IoU |
|------------|-------:|--------|------:|--------|------:|-------|----:|
| background | 100.00 | circle | 90.00 | square | 80.00 | star  | n/a |
| ring       |  57.50 | cross  | 41.50 |        |       |       |     |
'''


def test_a_base_of_background_alone_is_said_to_be_so():
    content = document()
    assert 'background alone' not in scenario_table(content)
    content['tasks'][1]['mIoU_no_background']['base'] = None
    assert 'Base of task 1 is of background alone: the test masks show no base class.' in scenario_table(content)
    content['tasks'][0]['mIoU_no_background']['base'] = None
    assert 'Base of tasks 0, 1 is of background alone' in scenario_table(content)
    content['tasks'][1]['mIoU']['base'] = content['tasks'][0]['mIoU']['base'] = None  # dense data
    assert 'background alone' not in scenario_table(content)


def test_task_table_exactly():
    text = task_table(document(), 1, LAST)
    assert text == '''\
SSUL-M on shapes 4-1, overlapped, seed 0, task 1: mIoU in percent

|  base |   new |   all | forgetting |
|------:|------:|------:|-----------:|
| 77.12 | 41.50 | 71.19 |       3.60 |

Forgetting: points lost since a class was learned, the mean over the old classes; negative is a gain.

IoU in percent:

| class      |    IoU | class  |   IoU | class  |   IoU | class | IoU |
|------------|-------:|--------|------:|--------|------:|-------|----:|
| background | 100.00 | circle | 90.00 | square | 80.00 | star  | n/a |
| ring       |  57.50 | cross  | 41.50 |        |       |       |     |
'''
    assert '\n\nBase is of background alone' in task_table(document(), 1, LAST | dict(mIoU_base_no_background=None))


def test_scenario_table_before_any_task():
    text = scenario_table(document() | dict(tasks=[]))
    assert text.startswith('SSUL-M on shapes') and 'after task' not in text


def test_comparison_table_exactly():
    runs = [dict(base=70.0, new=40.0, all=60.0), dict(base=72.0, new=40.0, all=61.0)]
    rows = [dict(method='SSUL', runs=runs, paper=[77.31, 36.59, 67.61]),
            dict(method='fine-tuning', runs=[dict(base=1.5, new=None, all=1.0)])]
    assert comparison_table(rows) == '''\
| method      |         base |          new |          all | seeds | base (paper) | new (paper) | all (paper) |
|-------------|-------------:|-------------:|-------------:|------:|-------------:|------------:|------------:|
| SSUL        | 71.00 ± 1.41 | 40.00 ± 0.00 | 60.50 ± 0.71 |     2 |        77.31 |       36.59 |       67.61 |
| fine-tuning |         1.50 |          n/a |         1.00 |     1 |          n/a |         n/a |         n/a |
'''
    assert 'paper' not in comparison_table(rows[1:])


def test_compare_groups_runs_and_sets_the_paper_beside(save):
    paths = [save(document(seed, shift=seed), f'{seed}.json') for seed in (0, 2)]
    paths.append(save(document(dataset='VOC', scenario=Scenario('15-1', 16), method='SSUL'), 'voc.json'))
    assert compare(paths) == '''\
shapes 4-1, overlapped: mIoU in percent

| method |         base |          new |          all | seeds |
|--------|-------------:|-------------:|-------------:|------:|
| SSUL-M | 78.12 ± 1.41 | 42.50 ± 1.41 | 72.19 ± 1.41 |     2 |

VOC 15-1, overlapped: mIoU in percent

| method |  base |   new |   all | seeds | base (paper) | new (paper) | all (paper) |
|--------|------:|------:|------:|------:|-------------:|------------:|------------:|
| SSUL   | 77.12 | 41.50 | 71.19 |     1 |        77.31 |       36.59 |       67.61 |
'''


def test_another_class_order_is_another_table_without_the_papers_numbers(save):
    order = [2, 1, *range(3, 17)]
    paths = [save(document(dataset='VOC', scenario=Scenario('15-1', 16, order), method='SSUL'), 'reordered.json'),
             save(document(dataset='VOC', scenario=Scenario('15-1', 16), method='SSUL'), 'default.json')]
    reordered, default = compare(paths).split('VOC 15-1, overlapped')[1:]
    assert reordered.startswith(', class order 2 1 3 4') and '(paper)' not in reordered and '77.31' in default


def test_compare_refuses_what_would_mislead(save):
    path = save(document())
    with pytest.raises(InputError, match='second run of SSUL-M on shapes 4-1 overlapped with seed 0'):
        compare([path, path])
    with pytest.raises(InputError, match='none of the runs is finished'):
        compare([save(document(finished=False), 'half.json')])
    with pytest.raises(InputError, match='nothing to compare'):
        compare([])


def test_compare_averages_only_what_differs_in_the_seed(save, tmp_path):
    def run(seed, **config):
        folder = tmp_path / f'run_{seed}'
        folder.mkdir()
        (folder / 'run.json').write_text(json.dumps({'randomness.seed': seed, **config}))
        (folder / 'results.json').write_text(json.dumps(document(seed)))
        return folder
    runs = [run(0, **{'model.freeze': True, 'a.data_root': 'x'}), run(1, **{'model.freeze': True, 'a.data_root': 'y'})]
    assert '±' in compare(runs)
    with pytest.raises(InputError, match=r'run_0 and .*run_2 are both called SSUL-M, .* \(model\.freeze\); .*method='):
        compare([*runs, run(2, **{'model.freeze': False})])


def test_variants_with_the_same_seed_are_told_by_what_differs(tmp_path):
    for name, tau in (('a', .7), ('b', .5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'run.json').write_text(json.dumps({'model.tau': tau}))
        (tmp_path / name / 'results.json').write_text(json.dumps(document()))
    with pytest.raises(InputError, match=r'a and .*b are both called SSUL-M, .* \(model\.tau\); .*method=NAME'):
        compare([tmp_path / 'a', tmp_path / 'b'])


def test_runs_without_results_are_left_out_with_a_line_each(save, tmp_path, capsys):
    (tmp_path / 'begun').mkdir()
    paths = [save(document()), tmp_path / 'begun', save(document(finished=False), 'half.json')]
    assert compare(paths) == compare(paths[:1])
    first, second = capsys.readouterr().err.splitlines()
    assert first == f'warning: {tmp_path / "begun"} holds no results.json; it is left out'
    assert 'half.json has not learned all tasks; it is left out' in second


@pytest.mark.parametrize(('place', 'expected'), [
    (('VOC', '15-1', 'overlapped', 'SSUL-M'), [78.36, 49.01, 71.37]),  # Table 1
    (('VOC', '19-1', 'overlapped', 'joint'), [77.51, 77.04, 77.43]),
    (('ADE20K', '100-5', 'overlapped', 'SSUL'), [39.94, 17.4, 32.48]),  # Table 2
    (('VOC', '10-1', 'overlapped', 'EWC'), None),
    (('VOC', '15-1', 'disjoint', 'SSUL-M'), None),
    (('VOC', '4-4', 'overlapped', 'SSUL'), None),
    (('VOC', '15-1', 'overlapped', 'fine-tuning'), None),
    (('shapes', '15-1', 'overlapped', 'SSUL'), None),
])
def test_numbers_of_the_paper(place, expected):
    assert paper_numbers(*place) == expected


def test_every_row_of_the_paper_has_a_triple_per_scenario():
    tables = json.loads((ROOT / 'ssul_mmseg/report/paper_tables.json').read_text())
    for name in ('table1_voc', 'table2_ade'):
        columns = tables[name].pop('columns')
        assert len(tables[name]) >= 6
        for method, row in tables[name].items():
            assert len(row) == len(columns), method
            assert all(cell is None or len(cell) == 3 for cell in row), method
