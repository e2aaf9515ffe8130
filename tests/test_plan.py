"""The runs of a table, and the tables that are shipped."""
from pathlib import Path

import pytest
from sweeps import ROOT, TABLE, write_table

from ssul_mmseg.errors import InputError
from ssul_mmseg.evaluation.compare import paper_numbers
from ssul_mmseg.sweep.plan import check_plan, make_plan
from ssul_mmseg.sweep.table_file import read_table

TABLES = sorted((ROOT / 'configs/tables').glob('*.toml'))


def plan(folder, text=TABLE, **options):
    return make_plan(read_table(write_table(folder, text)), 'out', options)


def test_task_0_is_shared_where_base_classes_order_and_seed_are_the_same(tmp_path):
    text = TABLE.replace("['4-1']", "['4-1', '4-2', '6-2']").replace('[0, 1, 2]', '[0, 7]')
    found = plan(tmp_path, text)
    assert [job.title for job in found.bases] == [
        'task 0 of SSUL 4, seed 0', 'task 0 of SSUL 4, seed 7', 'task 0 of SSUL 6, seed 0', 'task 0 of SSUL 6, seed 7']
    assert len(found.cells) == 2 * 3 * 2
    for job in found.cells:
        classes = job.options['scenario.name'].partition('-')[0]
        assert job.base.folder == Path('out/base_SSUL', classes, f'seed_{job.seed}') and job.base.trains_base
        assert job.folder == Path('out', job.row, job.options['scenario.name'], f'seed_{job.seed}')


def test_with_a_base_seed_all_seeds_start_from_one_task_0(tmp_path):
    text = 'base_seed = 5\n' + TABLE
    found, each = plan(tmp_path, text), plan(tmp_path)
    assert {job.base.folder.name for job in found.cells} == {'seed_5'}
    assert {job.base.seed for job in found.cells} == {5}
    assert len(found.bases) * len({job.seed for job in each.bases}) == len(each.bases)
    assert [(job.seed, job.folder) for job in found.cells] == [(job.seed, job.folder) for job in each.cells]
    alone = plan(tmp_path, text.replace("base = 'SSUL'", "base = 'other'", 1)).bases
    assert {job.seed for job in alone} == {5} and any('base_other' in str(job.folder) for job in alone)


def test_a_base_of_one_cell_and_no_base_are_trained_by_the_cell_itself(tmp_path):
    text = TABLE.replace("base = 'SSUL'", "base = 'other'", 1)
    assert not plan(tmp_path, text).bases and {job.base for job in plan(tmp_path, text).cells} == {None}


def test_commands_are_those_of_the_trainer(tmp_path):
    text = TABLE.replace("base = 'SSUL'\n", "base = 'SSUL'\noptions = { 'model.tau' = 0.5, 'saliency' = 'None' }\n", 1)
    text = text.replace('seeds =', 'settings = ["disjoint"]\norders = { b = [2, 1, 3, 4, 5, 6, 7, 8] }\nseeds =')
    found = plan(tmp_path, text, data_root='my data')
    config = str(ROOT / 'configs/ssul/shapes_4-1.py')
    options = ['data_root=my data', 'model.tau=0.5', 'saliency=None', 'method=SSUL', 'scenario.name=4-1',
               'scenario.setting=disjoint', 'scenario.order=[2, 1, 3, 4, 5, 6, 7, 8]']
    base = 'out/base_SSUL/4_disjoint_order_b/seed_0'
    assert found.bases[0].arguments == [
        config, '--work-dir', base, '--seed', '0', '--tasks', '0', '--resume', '--cfg-options', *options]
    assert found.cells[0].arguments == [
        config, '--work-dir', 'out/SSUL/4-1_disjoint_order_b/seed_0', '--seed', '0', '--start-from', base, '--resume',
        '--cfg-options', *options]
    check_plan(found)


@pytest.mark.parametrize(('old', 'new', 'message'), [
    ("name = 'SSUL-M'", "name = 'SSUL'", 'the cell SSUL 4-1, seed 0 is there twice'),
    ("name = 'SSUL-M'", "name = '(SSUL)'", r'the cell SSUL 4-1, seed 0, as \(SSUL\) 4-1, seed 0, is there twice'),
    ('[0, 1, 2]', '[0, 1, 1]', 'the cell SSUL 4-1, seed 1 is there twice'),
    ("['4-1']", "['4-1', '4-1']", 'is there twice'),
    ("name = 'SSUL-M'", "name = 'memory'", 'the row memory has an exemplar memory, so that its results are called'),
    ("['4-1']", "['5-2']", 'SSUL 5-2, seed 0: .*does not fit 8 classes'),
    ("base = 'SSUL'", "base = 'SSUL'\noptions = { 'model.taw' = 1 }", "SSUL 4-1, seed 0: .* no 'taw' in model"),
    ("base = 'SSUL'", "base = 'SSUL'\noptions = { 'scenario.joint' = true }", 'the row SSUL learns all classes in one'),
    ("base = 'SSUL'", "paper = ['table5']", "there is no 'table5' in the paper's tables; known: .*table1_voc"),
    ("base = 'SSUL'", "paper = ['table4_voc_15-1', 'saliency']", 'have no row of three numbers; .* DRFI'),
])
def test_what_cannot_run_is_refused_before_anything_runs(tmp_path, old, new, message):
    with pytest.raises(InputError, match=message):
        check_plan(plan(tmp_path, TABLE.replace(old, new, 1)))


@pytest.mark.parametrize('path', TABLES, ids=lambda path: path.stem)
def test_shipped_tables_can_run(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = make_plan(read_table(path))
    check_plan(found)
    assert found.bases and len(found.cells) >= 4 and found.name == path.stem
    shared = {'voc_lite': 'voc_lite', 'voc_trunk': 'voc_trunk', 'shapes_table3': 'shapes_ablations',
              'shapes_table4': 'shapes_ablations', 'shapes_fig': 'shapes_ablations'}
    folders = [folder for start, folder in shared.items() if path.stem.startswith(start)]
    assert found.folder == Path('work_dirs', *(folders or [path.stem]))


def test_tables_that_share_a_folder_mean_the_same_by_the_same_name(monkeypatch):
    monkeypatch.chdir(ROOT)
    jobs, doubles = {}, {'cells': 0, 'bases': 0}
    for path in TABLES:
        found = make_plan(read_table(path))
        for kind in doubles:
            for job in getattr(found, kind):
                # A base is the same in every scenario with its number of base classes.
                said = job.config, [text for text in job.arguments if not (job.trains_base and 'scenario.name' in text)]
                doubles[kind] += job.folder in jobs
                assert jobs.setdefault(job.folder, said) == said, path.stem
    assert doubles['cells'] >= 6  # SSUL and SSUL-M of the tables voc_lite
    assert doubles['bases'] >= 6


def test_the_papers_tables_have_its_rows():
    assert {'table1', 'table2', 'table3', 'table4', 'fig3b', 'fig3c', 'shapes_table1'} <= {path.stem for path in TABLES}
    for name, dataset, empty in (('table1', 'VOC', {('EWC', '10-1'), ('EWC', '5-3')}), ('table2', 'ADE20K', set())):
        table = read_table(ROOT / f'configs/tables/{name}.toml')
        places = {(row.name, scenario) for row in table.rows for scenario in row.scenarios}
        assert {place for place in places if not paper_numbers(dataset, place[1], 'overlapped', place[0])} == empty
        assert len(places) == {'table1': 8 * 5, 'table2': 6 * 4}[name]
    for name, rows in (('table3', 4), ('table4', 7)):
        assert sum(bool(row.paper) for row in read_table(ROOT / f'configs/tables/{name}.toml').rows) == rows
    assert len(read_table(ROOT / 'configs/tables/fig3b.toml').orders) == 20


def test_small_tables_on_vocs_own_masks_are_the_papers():
    tables = {path.stem: read_table(path) for path in TABLES}
    # The classical detector stands for DRFI.
    for name in ('table3', 'table4'):
        small, papers = ({row.name.replace('classical', 'DRFI'): row.paper for row in tables[stem].rows if row.paper}
                         for stem in (f'voc_lite_{name}', name))
        assert small == papers and len(papers) == {'table3': 4, 'table4': 7}[name]
    orders = tables['fig3b'].orders
    assert tables['voc_lite_fig3b'].orders == {letter: orders[letter] for letter in 'abcde'}
    methods = {row.name for row in tables['voc_lite_table1'].rows}
    assert methods >= {row.name for row in tables['table1'].rows} | {'fine-tuning', 'LwF', 'Analytic', 'IPSeg'}
    lite = [table for stem, table in tables.items() if stem.startswith('voc_lite')]
    assert len(lite) == 8
    for table in lite:
        assert table.options == lite[0].options and table.base_seed == 0
    assert (lite[0].options['train_cfg.max_epochs'], lite[0].options['feature_cache.views']) == (9, 3)


def test_rows_of_one_base_train_the_same_task_0():
    """What their configs say of task 0 is the same, but for what only later tasks read."""
    from ssul_mmseg.engine.task_config import task_config
    from ssul_mmseg.options import read_config
    later = {'type', 'tau', 'weight_transfer', 'freeze', 'weight', 'pod_weight', 'logits_weight', 'penalty_weight',
             'draws', 'power', 'gamma', 'views'}
    seen = {}
    for path in TABLES:
        table = read_table(path)
        for row in table.rows:
            cfg = read_config(row.config, {**table.options, **row.options, 'scenario.name': row.scenarios[0]})
            cfg.work_dir = 'nowhere'
            first = task_config(cfg, 0)
            said = {key: first.get(key).to_dict() for key in ('train_cfg', 'optim_wrapper')}
            said['model'] = {key: value for key, value in first.model.to_dict().items() if key not in later}
            said['model']['decode_head'].pop('classes_per_task')
            said['saliency'] = cfg.saliency
            if row.base:
                assert seen.setdefault((table.work_dir, row.base), said) == said, f'{path.stem}: {row.name}'
