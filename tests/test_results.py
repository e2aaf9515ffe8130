
import copy
import json

import pytest
from examples import LAST, SCENARIO, document

from ssul_mmseg.errors import InputError
from ssul_mmseg.work_dir.results import read_entry, read_results, results_document


def test_document_holds_entries_versions_and_final():
    result = document()
    assert result['schema'] == 1 and result['scenario'] == '4-1' and result['seed'] == 0
    assert set(result['versions']) == {'python', 'torch', 'mmcv', 'mmengine', 'mmseg', 'numpy', 'ssul_mmseg'}
    assert result['tasks'][1] == dict(
        task=1, classes=['cross'], num_images=150, memory=20, IoU=LAST['IoU'], absent=['star'],
        mIoU=dict(base=77.123, new=41.5, all=71.186), mIoU_no_background=dict(base=71.4, new=41.5, all=65.42),
        forgetting=3.6, forgetting_per_task=[3.6], seconds=12.0,
        confusion=LAST['confusion'], peak_memory=2**29)
    assert result['final'] == dict(base=77.123, new=41.5, all=71.186)


def test_an_unfinished_run_has_no_final():
    assert document(finished=False)['final'] == dict(base=None, new=None, all=None)
    assert results_document('c', 'd', SCENARIO, 'm', 0, [])['final']['all'] is None


def test_results_survive_writing_and_reading(save, tmp_path):
    path = save(document())
    assert read_results(path) == read_results(tmp_path) == document()


def test_results_of_an_earlier_version_are_read_without_what_it_did_not_write(save, tmp_path):
    old = document()
    for entry in old['tasks']:
        del entry['confusion'], entry['peak_memory']
    assert [(e['confusion'], e['peak_memory']) for e in read_results(save(old))['tasks']] == [([], None), ([], None)]
    (tmp_path / 'result.json').write_text(json.dumps(old['tasks'][1]))
    assert read_entry(tmp_path / 'result.json', 1)['confusion'] == []


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
    (lambda d: d['tasks'][1].update(peak_memory='much'), r"tasks\.1\.peak_memory is 'much', not int or null"),
    (lambda d: d['tasks'][1]['confusion'][2].append(0), r'tasks\.1\.confusion is not of the 6 classes'),
    (lambda d: d['tasks'][1].update(IoU={}), r'tasks\.1\.IoU is of no class'),
    (lambda d: d['tasks'][1]['confusion'].pop(), r'tasks\.1\.confusion is not of the 6 classes of tasks\.1\.IoU'),
    (lambda d: d['tasks'][1]['confusion'][0].__setitem__(0, .5), r'tasks\.1\.confusion\.0\.0 is 0\.5, not int'),
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
