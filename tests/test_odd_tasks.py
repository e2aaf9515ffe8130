"""Tasks, memories and test sets that are as small as can be, or lack a class: each runs and reports sensibly."""
import json

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine import memory_hook
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.evaluation.compare import compare
from ssul_mmseg.evaluation.tables import number
from ssul_mmseg.work_dir.weights import load_state

CONFIG = 'configs/ssul/voc_15-1_m.py'
# Ids of VOC's classes: 18 is sofa, 19 train, 20 tvmonitor.
OPTIONS = {'scenario.name': '19-1', 'train_cfg.max_epochs': 2, 'memory.size': 30}


def tree_of(root, train, test):
    """A data set in VOC layout whose images hold the given classes, in a grid of twenty fields with lines between."""
    voc_tree(root, len(train) + len(test))
    names = [f'2007_{i:06d}' for i in range(len(train) + len(test))]
    for name, classes in zip(names, [*train, *test], strict=True):
        fields = np.resize(np.array(classes, np.uint8), (4, 5)).repeat(6, 0).repeat(5, 1)
        fields[5::6] = 0
        mask = np.zeros((24, 32), np.uint8)
        mask[:, 4:29] = fields
        Image.fromarray(mask).save(root / f'SegmentationClassAug/{name}.png')
        Image.fromarray(mask).save(root / f'SaliencyMap/{name}.png')
    for split, part in (('train_aug', names[:len(train)]), ('val', names[len(train):])):
        (root / f'ImageSets/Segmentation/{split}.txt').write_text('\n'.join(part))
    return root


BASE = [range(1, 11), range(10, 20), range(1, 20)]


def run(tmp_path, train, test, **options):
    """Results and table of a run; its weights must be numbers."""
    work_dir = tmp_path / 'work'
    cfg = tiny_config(tree_of(tmp_path / 'voc', train, test), work_dir, CONFIG, **OPTIONS | options)
    document = run_scenario(cfg)
    for task in document['tasks']:
        state = load_state(work_dir / f'task_{task["task"]}/weights.pth')['state_dict']
        assert all(value.isfinite().all() for value in state.values())
    assert document == json.loads((work_dir / 'results.json').read_text())
    return document, (work_dir / 'results.md').read_text()


@pytest.mark.parametrize('options', [{}, {'feature_cache': dict(views=2)}, {'memory': None}], ids=str)
def test_tasks_smaller_than_a_batch(tmp_path, options):
    document, _ = run(tmp_path, [*BASE, (20, )], [range(1, 21)], **{'train_dataloader.batch_size': 8}, **options)
    assert [(task['num_images'], task['memory']) for task in document['tasks']] == [
        (3, 0), (1, 0 if 'memory' in options else 3)]
    assert all(0 <= value <= 100 for value in document['final'].values())


def test_a_base_task_of_one_image(tmp_path):
    document, _ = run(tmp_path, [range(1, 20), (20, )], [range(1, 21)])
    assert [task['num_images'] for task in document['tasks']] == [1, 1]


def test_a_class_in_no_test_image_is_0_or_not_available(tmp_path):
    """tvmonitor, the one new class, and sofa are in no test image: 0 where the network predicts them, else n/a."""
    document, table = run(tmp_path, [*BASE, (20, )], [range(1, 18), (1, 19)])
    base, last = document['tasks']
    for task in document['tasks']:
        assert task['IoU']['sofa'] in (None, 0) and task['IoU']['train'] is not None
    assert (base['absent'], last['absent']) == (['sofa'], ['sofa', 'tvmonitor'])
    assert last['IoU']['tvmonitor'] in (None, 0)
    assert last['mIoU']['new'] == document['final']['new'] == last['IoU']['tvmonitor']
    # Means are over what is there or is predicted.
    shown = [value for name, value in last['IoU'].items() if name not in ('background', 'tvmonitor')]
    shown = [value for value in shown if value is not None]
    assert last['mIoU_no_background']['base'] == pytest.approx(sum(shown) / len(shown))
    assert last['forgetting'] is not None
    assert 'In no test mask: 2 of 20 classes (sofa, tvmonitor)' in table
    rows = [row.split('|') for row in table.splitlines() if 'sofa' in row or 'tvmonitor' in row]
    cells = {name.strip(): value.strip() for row in rows for name, value in zip(row[1::2], row[2::2], strict=False)}
    assert cells['sofa'] in ('n/a', '0.00') and cells['tvmonitor'] in ('n/a', '0.00')
    assert number(document['final']['new']) in compare([tmp_path / 'work/results.json'])


def test_a_memory_smaller_than_the_number_of_classes(tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr(memory_hook, 'print_log', lambda message, **_: messages.append(message))
    document, _ = run(tmp_path, [(label, ) for label in range(1, 21)], [range(1, 21)], **{'memory.size': 2})
    assert document['tasks'][1]['memory'] == 2 and document['final']['all'] >= 0
    assert len(messages) == 2 and '\n' not in messages[0]
    assert 'the memory of 2 images has no exemplar of 17 of the 19 classes seen' in messages[0]
    assert 'memory.size' in messages[0]


@pytest.mark.parametrize('options', [{'scenario.name': '20-1'}, {'scenario.joint': True}], ids=str)
def test_a_scenario_of_one_task(tmp_path, options):
    document, table = run(tmp_path, [*BASE, (20, )], [range(1, 21)], **options)
    (task, ) = document['tasks']
    assert len(task['classes']) == 20 and task['num_images'] == 4
    assert task['forgetting'] is None and task['forgetting_per_task'] == []
    assert (task['mIoU']['new'] is None) == ('scenario.name' in options)
    assert document['final'] == task['mIoU'] and document['final']['all'] is not None
    assert 'n/a' in table and 'nan' not in table


@pytest.mark.parametrize('options', [{}, {'feature_cache': dict(views=1)}], ids=str)
def test_a_test_set_of_one_image(tmp_path, options):
    document, table = run(tmp_path, [*BASE, (20, )], [(20, )], **options)
    first, last = document['tasks']
    assert first['mIoU']['base'] is not None  # of the background alone
    for task in document['tasks']:
        assert task['mIoU_no_background']['base'] in (None, 0) and task['absent'] == first['classes']
    assert last['mIoU']['new'] is not None and last['forgetting'] is None
    assert 'nan' not in table
