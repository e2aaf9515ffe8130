"""Names and colours of classes: what tables and files can hold, from the config to the last table."""
import json

import numpy as np
import pytest
from mmseg.registry import DATASETS
from tiny import ROOT, tiny_options, voc_tree

from ssul_mmseg.datasets.classes import class_colours, class_ids, class_names
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.options import read_config
from ssul_mmseg.prediction import Predictor
from ssul_mmseg.work_dir.weights import load_state

# Each is odd in its own way: a quote, a keyword, markup of several kinds, an option's separators, another script.
ODD = ("men's shoe", 'pass', '$x_1$ [red]{0}\\n', 'a, b = "c": 1.5', 'dérivée 猫')
CONFIG = '''_base_ = '{root}/configs/ssul/voc_15-1_m.py'
scenario = dict(name='{scenario}', num_classes={num_classes})
data = dict(_delete_=True, type='BaseSegDataset', metainfo=dict(classes={classes!r}{palette}),
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'))
train_dataloader = dict(dataset=dict(dataset=dict(data, ann_file='ImageSets/Segmentation/train_aug.txt')))
test_dataloader = dict(dataset=dict(dataset=dict(data, ann_file='ImageSets/Segmentation/val.txt')))
'''


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', 15, num_classes=5)


@pytest.fixture
def config(tree, tmp_path):
    """Reads a config of a data set with these classes."""
    def read(classes, scenario='3-2', palette='', **options):
        num_classes = len(classes) - 1
        (tmp_path / 'config.py').write_text(CONFIG.format(
            root=ROOT, scenario=scenario, num_classes=num_classes, classes=classes,
            palette=f', palette={palette}' if palette else ''))
        cfg = read_config(str(tmp_path / 'config.py'), {**tiny_options(tree), 'memory.size': 4, **options})
        cfg.work_dir = str(tmp_path / 'run')
        return cfg
    return read


@pytest.mark.usefixtures('formatted_configs')
def test_names_are_data_in_a_whole_run(config, tmp_path, tree):
    classes = ('background', *ODD)
    document = run_scenario(config(classes))
    for task, labels in ((0, ODD[:3]), (1, ODD[3:])):
        assert document['tasks'][task]['classes'] == list(labels)
    assert document['tasks'][1]['forgetting'] is not None
    assert list(document['tasks'][1]['IoU']) == list(classes)
    table = (tmp_path / 'run/results.md').read_text()
    assert all(name in table for name in ODD)
    assert load_state(tmp_path / 'run/task_1/weights.pth')['meta']['classes'] == list(ODD)
    assert run_scenario(config(classes), resume=True)['tasks'] == document['tasks']
    prediction = Predictor(config(classes), 1).predict(tree / 'JPEGImages/2007_000000.jpg')
    assert prediction.classes == classes and prediction.overlay().size == (32, 24)


@pytest.mark.parametrize(('classes', 'words'), [
    (('background', 'a', 'b', 'a', 'd', 'e'), ["classes 1 and 3 of BaseSegDataset", "called 'a'"]),
    (('background', 'a', 'b', 'a ', 'd', 'e'), ['classes 1 and 3', "called 'a'"]),
    (('background', 'a', 'background', 'c', 'd', 'e'), ["'background' is class 2", 'the first']),
    (('background', 'a', 'Background', 'c', 'd', 'e'), ["'Background'", 'the first']),
    (('background', 'a', 'two\nlines', 'c', 'd', 'e'), [r"'two\nlines'", 'line end']),
    (('background', 'a', 'two\u2028lines', 'c', 'd', 'e'), ['line end']),
    (('background', 'a', 'b|c', 'c', 'd', 'e'), ["'b|c'", 'columns']),
    (('background', 'a', '', 'c', 'd', 'e'), ["''", 'empty']),
    (('background', 'a', '  ', 'c', 'd', 'e'), ['empty']),
    (('background', 'a', 7, 'c', 'd', 'e'), ['7', 'not text']),
    (('background', 'a', None, 'c', 'd', 'e'), ['None', 'not text']),
    (('background', 'a', '\x1b[2J', 'c', 'd', 'e'), ['cannot be shown']),
], ids=repr)
def test_names_that_results_cannot_hold_are_refused_before_training(config, tmp_path, classes, words):
    with pytest.raises(InputError) as error:
        run_scenario(config(classes))
    assert all(word in error.value.sentence for word in words), error.value.sentence
    assert not list((tmp_path / 'run').glob('task_*'))


@pytest.mark.parametrize('classes', ['abc', None, [], 5], ids=repr)
def test_no_list_of_names_is_refused(classes):
    with pytest.raises(InputError, match=r'the classes of Mine are .*list of their names'):
        class_names(dict(classes=classes), 'Mine')


def test_classes_and_colours_of_mmsegs_own_data_sets_can_be_used():
    checked = 0
    for name, dataset in DATASETS.module_dict.items():
        metainfo = getattr(dataset, 'METAINFO', {})
        if 'classes' in metainfo:
            names = class_names(metainfo, name)
            background = len(metainfo['classes']) - len(names)
            assert len(class_colours(metainfo, name)) in (0, len(names)) and background in (0, 1)
            assert all(name == name.strip() for name in names)
            checked += 1
    assert checked > 20
    # ADE20K's 'bed ' and LIP's 'Background', as mmseg writes them.
    assert class_names(DATASETS.get('ADE20KDataset').METAINFO, 'ADE20K')[7] == 'bed'
    assert class_names(DATASETS.get('LIPDataset').METAINFO, 'LIP')[0] == 'Hat'


FIVE = ('background', 'a', 'b', 'c', 'd', 'e')


@pytest.mark.parametrize(('second', 'rest', 'words'), [
    ([.9, .1, .1], 4, ['colour 1 ', '[0.9, 0.1, 0.1]', 'whole numbers from 0 to 255']),
    ([300, 1, 1], 4, ['[300, 1, 1]']), ([-1, 1, 1], 4, ['[-1, 1, 1]']),
    ([1, 1, 1, 255], 4, ['[1, 1, 1, 255]', 'red, green and blue']),
    ('red', 4, ["'red'"]), (7, 4, ['colour 1 ', ' 7']), ([True, False, True], 4, ['True']),
    ([1, 1, 1], 3, ['5 colours for 6 classes']), ([1, 1, 1], 5, ['7 colours for 6 classes']),
], ids=str)
def test_a_palette_that_is_none_is_refused_before_training(config, tmp_path, second, rest, words):
    palette = [[0, 0, 0], second, *([[2, 2, 2]] * rest)]
    with pytest.raises(InputError) as error:
        run_scenario(config(FIVE, palette=palette))
    assert all(word in error.value.sentence for word in words), error.value.sentence
    assert not list((tmp_path / 'run').glob('task_*'))


def test_a_palette_comes_through_in_the_order_of_learning(config):
    palette = [(0, 0, 0), (1, 1, 1), (2, 2, 2), np.array([3, 3, 3]), (4, 4, 4), (255, 0, 5)]
    metainfo = dict(classes=FIVE, palette=palette)
    assert class_colours(metainfo, 'Mine') == [[1, 1, 1], [2, 2, 2], [3, 3, 3], [4, 4, 4], [255, 0, 5]]
    assert class_colours(dict(classes=FIVE[1:], palette=palette[1:]), 'Mine') == class_colours(metainfo, 'Mine')
    cfg = config(FIVE, palette=[[i] * 3 for i in range(6)], **{'scenario.order': [3, 1, 2, 5, 4]})
    metainfo = Run(cfg).test_data(task_config(cfg, 0)).metainfo
    assert metainfo['palette'] == [[i] * 3 for i in (0, 3, 1, 2, 5, 4)]
    assert metainfo['classes'] == ('background', 'c', 'a', 'b', 'e', 'd')


def test_an_order_of_names_is_that_of_their_ids(config, tmp_path):
    """Not its own inverse: label and id are not to be taken for each other."""
    order = [ODD[2], ODD[0], ODD[1], ODD[4], 4]
    cfg = config(('background', *ODD), **{'scenario.order': order})
    assert cfg.scenario.order == [3, 1, 2, 5, 4]
    document = run_scenario(cfg, range(1))
    assert document['order'] == [3, 1, 2, 5, 4] and document['tasks'][0]['classes'] == order[:3]
    # The run is the same, however its order is written.
    same = config(('background', *ODD), **{'scenario.order': [3, 1, 2, 5, 4]})
    assert run_scenario(same, range(1), resume=True)['tasks'] == document['tasks']
    record = json.loads((tmp_path / 'run/run.json').read_text())
    assert [record[f'scenario.order.{i}'] for i in range(5)] == [3, 1, 2, 5, 4]


def test_an_order_of_names_of_a_registered_data_set():
    order = ['hexagon', 'disc', 'square', 'triangle', 'star', 'ring', 'cross', 'ellipse']
    cfg = read_config(str(ROOT / 'configs/ssul/shapes_4-1.py'), {'scenario.order': order})
    assert cfg.scenario.order == [8, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(('order', 'words'), [
    (['a', 'b', 'c', 'd', 'f'], ["names 'f'", 'known: a, b, c, d, e']),
    (['a', 'b', 'c', 'd', 'background'], ["names 'background'"]),
    (['a', 'b', 'c', 'd', 'd'], ['missing: e', 'repeated: d']), (['a', 'b', 'c', 4], ['missing: e']),
    (['1', '2', '3', '4', '5'], ["names '1'"]),
])
def test_a_wrong_order_of_names_is_refused_by_the_names(config, order, words):
    with pytest.raises(InputError, match=r'scenario\.order') as error:
        config(FIVE, **{'scenario.order': order})
    assert all(word in error.value.sentence for word in words), error.value.sentence
    assert class_ids(['10', 2, 'a'], ['a', 'b', '10']) == [3, 2, 1]
