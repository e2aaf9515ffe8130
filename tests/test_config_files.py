"""Configs and tables are found by path or by name, and mistakes name what there is."""
from pathlib import Path

import pytest

from ssul_mmseg.config_files import CONFIG, TABLE, find, names
from ssul_mmseg.errors import InputError

# Not tiny.ROOT: that module loads PyTorch.
CONFIGS = Path(__file__).resolve().parent.parent / 'configs'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A current folder without configs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(('given', 'kind', 'file'), [
    ('ssul/voc_15-1', CONFIG, 'ssul/voc_15-1.py'), ('configs/ssul/voc_15-1.py', CONFIG, 'ssul/voc_15-1.py'),
    ('configs/mib/voc_15-1', CONFIG, 'mib/voc_15-1.py'), ('voc_15-1_m', CONFIG, 'ssul/voc_15-1_m.py'),
    ('table1', TABLE, 'tables/table1.toml'), ('tables/table1', TABLE, 'tables/table1.toml'),
    ('configs/tables/table1.toml', TABLE, 'tables/table1.toml')])
def test_a_name_stands_for_a_file_of_the_package(given, kind, file):
    assert find(given, kind) == CONFIGS / file and (CONFIGS / file).is_file()


def test_a_path_wins(elsewhere):
    for path in ('configs/ssul/voc_15-1.py', 'voc_15-1_m', 'mine.py'):
        file = elsewhere / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('')
        assert find(path).resolve() == file


def test_a_path_that_does_not_exist_is_no_name_unless_the_documents_write_it_so():
    for path in ('voc_15-1_m.py', 'ssul/voc_15-1.py', '../configs/ssul/voc_15-1.py', '/configs/ssul/voc_15-1.py'):
        with pytest.raises(InputError, match=f'^there is no config {path}'):
            find(path)


def test_a_name_of_several_configs_is_refused_with_all_of_them():
    sharing = sorted(f'{path.parent.name}/voc_15-1' for path in CONFIGS.glob('*/voc_15-1.py'))
    assert len(sharing) >= 10
    with pytest.raises(InputError) as error:
        find('voc_15-1')
    assert str(error.value) == f'{len(sharing)} configs are called voc_15-1; give one of {", ".join(sharing)}'


@pytest.mark.parametrize(('given', 'kind', 'hint'), [
    ('ssul/voc_15-1m', CONFIG, 'did you mean ssul/voc_15-1_m or '), ('voc_lite_15-6', CONFIG, 'voc_lite_15-5 or '),
    ('ssul/shapes41', CONFIG, 'ssul/shapes_4-1'), ('tabel1', TABLE, 'did you mean table1 or '),
    ('configs/ssul/voc_15-1m.py', CONFIG, 'ssul/voc_15-1_m'), ('nothing', CONFIG, '; ssul configs lists'),
    ('_base_/default_runtime', CONFIG, 'there is no config'), ('ssul/voc_15-1', TABLE, 'there is no table')])
def test_an_unknown_name_is_refused_with_the_nearest(given, kind, hint):
    with pytest.raises(InputError) as error:
        find(given, kind)
    assert str(error.value).startswith(f'there is no {"config" if kind == CONFIG else "table"} {given}')
    assert hint in str(error.value), str(error.value)


def test_a_file_beside_the_one_that_is_not_there_is_nearer_than_a_name(elsewhere):
    (elsewhere / 'voc_15-1_mine.py').write_text('')
    with pytest.raises(InputError, match=r'did you mean voc_15-1_mine\.py\?$'):
        find('voc_15-1_min.py')


def test_every_name_finds_its_file_and_parts_of_configs_have_none():
    for kind, least in ((CONFIG, 80), (TABLE, 9)):
        assert len(names(kind)) >= least
        for name in names(kind):
            assert find(name, kind) == CONFIGS / f'{name}{kind}'
    assert not [name for name in names(CONFIG) if '_base_' in name]
