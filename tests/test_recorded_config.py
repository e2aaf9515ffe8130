"""The config of a run is read back from what the run has recorded."""
import json

import pytest
from tiny import tiny_config

from ssul_mmseg.engine.recorded_config import read_recorded_config
from ssul_mmseg.engine.resume import record_run
from ssul_mmseg.errors import InputError


@pytest.fixture
def recorded(tmp_path):
    """The config of a run, which has recorded it."""
    cfg = tiny_config(tmp_path / 'voc', tmp_path / 'run', 'configs/ssul/voc_15-1_m.py', **{'memory.size': 20})
    (tmp_path / 'run').mkdir()
    record_run(cfg)
    return cfg


def as_lists(part):
    """Tuples as lists, as JSON writes them."""
    return json.loads(json.dumps(part))


def test_what_builds_a_network_is_read_back(recorded):
    found = read_recorded_config(recorded.work_dir)
    for key in ('model', 'scenario', 'memory', 'incremental', 'crop_size', 'saliency', 'test_evaluator'):
        assert as_lists(found.to_dict().get(key)) == as_lists(recorded.to_dict().get(key)), key
    assert as_lists(found.test_dataloader.dataset.to_dict()) == as_lists(recorded.test_dataloader.dataset.to_dict())
    assert found.work_dir == recorded.work_dir and found.filename.endswith('run.json')


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r'there is no run\.json in .*; give the work dir of a run'):
        read_recorded_config(tmp_path)


@pytest.mark.parametrize('content', ['[1]', '{"a": 1}', '{"model": 3, "scenario.name": "15-1"}', '{"model.ty'])
def test_a_record_of_no_run_is_refused(tmp_path, content):
    (tmp_path / 'run.json').write_text(content)
    with pytest.raises(InputError, match=r'run\.json'):
        read_recorded_config(tmp_path)


def test_modules_that_cannot_be_imported_are_named(recorded, tmp_path):
    path = tmp_path / 'run/run.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'custom_imports.imports.1': 'my_missing_module'}))
    with pytest.raises(InputError, match=r'custom_imports.*my_missing_module'):
        read_recorded_config(tmp_path / 'run')
