import json

import pytest
from examples import document
from tiny import ROOT

from ssul_mmseg.errors import InputError
from ssul_mmseg.evaluation.compare import compare, paper_numbers
from ssul_mmseg.scenario import Scenario


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
    with pytest.raises(InputError, match=r'none of the runs is finished \(.*half\.json\)'):
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


def test_variants_with_the_same_seed_are_refused_with_what_differs(tmp_path):
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
    assert 'half.json is not learned, or not evaluated; it is left out' in second


@pytest.mark.parametrize(('place', 'expected'), [
    (('VOC', '15-1', 'overlapped', 'SSUL-M'), [78.36, 49.01, 71.37]),  # Table 1
    (('VOC', '19-1', 'overlapped', 'joint'), [77.51, 77.04, 77.43]),
    (('VOC train', '15-1', 'overlapped', 'SSUL'), [77.31, 36.59, 67.61]),
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
    tables = json.loads((ROOT / 'ssul_mmseg/evaluation/paper_tables.json').read_text())
    for name in ('table1_voc', 'table2_ade'):
        columns = tables[name].pop('columns')
        assert len(tables[name]) >= 6
        for method, row in tables[name].items():
            assert len(row) == len(columns), method
            assert all(cell is None or len(cell) == 3 for cell in row), method
