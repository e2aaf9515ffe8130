"""The config that a run records in its work dir."""
import pytest
from tiny import ROOT

from ssul_mmseg.errors import InputError
from ssul_mmseg.options import read_config
from ssul_mmseg.work_dir.config_file import read_config_values, write_config


def test_a_config_comes_back_with_its_tuples_and_without_what_belongs_to_a_call(tmp_path):
    model = {'type': 'SSUL', 'sizes': (1, 2.5, None), 'on': True, 'name': "a'b\n"}
    values = {'model': model, 'steps': [], 'wide': 'x' * 300}
    write_config(tmp_path, {**values, 'work_dir': '/elsewhere', 'launcher': 'none'})
    assert read_config_values(tmp_path) == values
    assert list(read_config_values(tmp_path)) == list(values)


@pytest.mark.parametrize('name', ['ssul/voc_15-1_m', 'add_class/shapes_4-1', 'analytic/voc_lite_15-1'])
def test_configs_of_the_project_come_back_and_are_configs_for_the_tools(tmp_path, name):
    cfg = read_config(str(ROOT / f'configs/{name}.py'))
    write_config(tmp_path, cfg.to_dict())
    assert read_config_values(tmp_path) == cfg.to_dict()
    assert read_config(str(tmp_path / 'config.py')).to_dict() == cfg.to_dict()


@pytest.mark.parametrize('text', [
    'model = open("hacked", "w")', 'import os', 'open("hacked", "w").close()', 'a = b = 1', 'model = [1, 2',
    f'model = {"(" * 300}{")" * 300}', 'model = object'])
def test_code_in_it_is_refused_and_not_run(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'config.py').write_text(f'scenario = {{}}\n{text}\n')
    with pytest.raises(InputError, match=r'config\.py .*; give the config that was trained as well'):
        read_config_values(tmp_path)
    assert not (tmp_path / 'hacked').exists()


def test_a_work_dir_without_one_is_reported(tmp_path):
    with pytest.raises(InputError, match=r'the config of the run in .* is not there .*No such file.*; give the config'):
        read_config_values(tmp_path)
