"""Tables of runs are read, and what they cannot mean is one sentence."""
import pytest
from sweeps import TABLE, write_table

from ssul_mmseg.errors import InputError
from ssul_mmseg.sweep.table_file import read_table


def test_a_row_has_its_own_axes_or_those_of_the_table(tmp_path):
    text = TABLE.replace("base = 'SSUL'\n", "scenarios = ['6-2', '4-2']\noptions = { 'saliency' = 'None' }\n", 1)
    table = read_table(write_table(tmp_path, text))
    first, second = table.rows
    assert (first.scenarios, first.seeds, first.base) == (['6-2', '4-2'], [0, 1, 2], '')
    assert first.options == {'saliency': None}
    assert (second.scenarios, second.base, second.paper, table.work_dir.name) == (['4-1'], 'SSUL', [], 'table')
    assert (table.settings, table.orders) == ([None], {None: None})


@pytest.mark.parametrize(('old', 'new', 'message'), [
    ('seeds = [0, 1, 2]', 'sedes = [0]', "there is no key 'sedes' in the table; known: work_dir, scenarios"),
    ("base = 'SSUL'", 'bsae = "SSUL"', "there is no key 'bsae' in row 1; known: name, config"),
    ('shapes_4-1.py', 'shapes_4-9.py',
     'row 1, SSUL, cannot be run: there is no config .*shapes_4-9.py; did you mean .*shapes_4-'),
    ("name = 'SSUL'", '', 'row 1 has no name; set it'),
    ("name = 'SSUL'", "name = ''", "name in row 1 is ''; it is text"),
    ('seeds = [0, 1, 2]', 'seeds = 3', 'seeds in the table is 3; it is a list'),
    ('seeds = [0, 1, 2]', "seeds = ['0']", r"has the seeds \['0'\]; give a list of whole numbers"),
    ("scenarios = ['4-1']", '', r'has the scenarios \[\]; give a list'),
    ("scenarios = ['4-1']", "scenarios = ['4']", r"has the scenarios \['4'\]"),
    ("scenarios = ['4-1']", "scenarios = ['4-1']\nsettings = ['disjiont']", 'choose of overlapped, disjoint'),
    ("scenarios = ['4-1']", "scenarios = ['4-1']\norders = { a = 1 }", 'give a name to each list of class ids'),
    ("base = 'SSUL'", "options = { 'model.tau' = '[1' }", r"option model\.tau of row 1, SSUL, is '\[1'"),
    ('[[rows]]', '[[rows', 'is no TOML'),
])
def test_mistakes_are_one_sentence(tmp_path, old, new, message):
    with pytest.raises(InputError, match=message):
        read_table(write_table(tmp_path, TABLE.replace(old, new, 1)))


def test_a_table_without_rows_and_one_that_is_not_there(tmp_path):
    for text in ('', 'rows = [1]', 'rows = []'):
        with pytest.raises(InputError, match='rows'):
            read_table(write_table(tmp_path, text))
    with pytest.raises(InputError, match=r'there is no table nowhere\.toml; ssul configs lists'):
        read_table('nowhere.toml')
