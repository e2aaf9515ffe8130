"""A class is added to a learned network in one call."""
import runpy
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from mmseg.registry import DATASETS
from PIL import Image
from tiny import ROOT, tiny_config, tiny_options, voc_tree

import ssul_mmseg
from ssul_mmseg.engine.recorded_config import read_recorded_config
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.new_class import _config
from ssul_mmseg.options import read_config
from ssul_mmseg.scenario import UNKNOWN, Scenario
from ssul_mmseg.work_dir.results import read_results
from ssul_mmseg.work_dir.weights import TaskWeights, load_state

OPTIONS = {'scenario.name': '19-1', 'train_cfg.max_epochs': 1}


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', 20)


@pytest.fixture(scope='module')
def learned(tree, tmp_path_factory):
    """A work dir in which 19 classes are learned."""
    work_dir = tmp_path_factory.mktemp('learned') / 'run'
    run_scenario(tiny_config(tree, work_dir, **OPTIONS), [0])
    return work_dir


@pytest.fixture
def data(tmp_path):
    """Twelve images and their masks: value 7 is a bright square, 9 another object, 255 a line between them."""
    rng = np.random.default_rng(0)
    for folder in ('images', 'masks', 'maps'):
        (tmp_path / folder).mkdir()
    for number in range(12):
        mask = np.zeros((24, 32), np.uint8)
        mask[4:16, 4:20] = 7
        mask[18:, :] = 9
        mask[16, :] = 255
        image = rng.integers(0, 60, (24, 32, 3), dtype=np.uint8) + (mask == 7)[..., None].astype(np.uint8) * 150
        Image.fromarray(image).save(tmp_path / f'images/{number}.jpg')
        Image.fromarray(mask).save(tmp_path / f'masks/{number}.png')
        Image.fromarray((mask == 9).astype(np.uint8) * 255).save(tmp_path / f'maps/{number}.png')
    return tmp_path


def add(learned, data, name='ring', out='out', **options):
    return ssul_mmseg.add_class(learned, data / 'images', data / 'masks', name, data / out, **{'value': 7, **options})


def test_two_calls_add_two_classes_and_leave_the_old_ones_as_they_are(learned, data):
    first = add(learned, data)
    second = add(data / 'out', data, 'cross', 'more', value=9)
    assert (first, second) == (data / 'out/task_1/weights.pth', data / 'more/task_2/weights.pth')
    states = [load_state(path) for path in (learned / 'task_0/weights.pth', first, second)]
    assert [state['meta']['classes'][19:] for state in states] == [[], ['ring'], ['ring', 'cross']]
    for old, new in pairwise(states):
        same = [key for key in old['state_dict'] if 'classifiers.background' not in key and '.unknown.' not in key]
        assert len(same) > 50 and any('classifiers.task_0' in key for key in same)
        assert all(torch.equal(old['state_dict'][key], new['state_dict'][key]) for key in same)
    for task, (old, new) in enumerate(pairwise(states), start=1):
        prefix = 'decode_head.classifiers.'
        start = old['state_dict'][f'{prefix}unknown.0.weight']
        assert not torch.allclose(new['state_dict'][f'{prefix}task_{task}.0.weight'], start, rtol=0.1)
    assert load_state(data / 'more/task_1/weights.pth')['meta'] == states[1]['meta']
    for folder, task in (('out', 1), ('more', 2)):
        log, = (data / folder / f'task_{task}').glob('*/*.log')
        assert f'task {task} is solved: ' in log.read_text()
    model = ssul_mmseg.load_model(data / 'more')
    assert model.classes[-2:] == ('ring', 'cross')
    assert len({tuple(colour) for colour in model.palette}) == 22
    # What was learned is found, as far as a grid of 3 x 4 cells can show it.
    found = ssul_mmseg.predict(model, data / 'images/0.jpg')
    marked = np.array(Image.open(data / 'masks/0.png'))
    score = {value: found.scores[20][marked == value].mean() for value in (7, 9)}
    assert score[7] > score[9]


def test_the_masks_of_the_class_decide_what_is_learned(learned, data):
    """Another value of the same masks is another class."""
    square, other = (load_state(add(learned, data, out=f'out{value}', value=value))['state_dict'] for value in (7, 9))
    key = 'decode_head.classifiers.task_1.0.weight'
    assert not torch.allclose(square[key], other[key], rtol=0.1)


@pytest.mark.parametrize(('saliency', 'others'), [(None, 0), ('ground_truth', UNKNOWN), ('maps', UNKNOWN)])
def test_saliency_says_what_other_values_are(learned, data, saliency, others):
    add(learned, data, saliency=data / 'maps' if saliency == 'maps' else saliency)
    # The config that the call leaves is one for the tools.
    cfg = read_config(str(data / 'out/config.py'))
    cfg.work_dir = str(data / 'out')
    cfg.train_dataloader.dataset.pipeline = cfg.train_dataloader.dataset.pipeline[:3]
    dataset = DATASETS.build(task_config(cfg, 1).train_dataloader.dataset)
    labels, mask = dataset[0]['gt_seg_map'], np.array(Image.open(data / 'masks/0.png'))
    assert {value: set(labels[mask == value].tolist()) for value in (0, 7, 9, 255)} == {
        0: {0}, 7: {20}, 9: {others}, 255: {255}}


def test_test_images_make_a_table_and_without_them_none_is_read(learned, data, capsys):
    (data / 'tests').mkdir()
    for path in (data / 'masks').iterdir():
        mask = np.array(Image.open(path))
        mask[mask == 9] = 3
        mask[mask == 7] = 20
        Image.fromarray(mask).save(data / 'tests' / path.name)
    add(learned, data, out='plain')
    assert not (data / 'plain/task_1/result.json').exists()
    main = runpy.run_path(str(ROOT / 'tools/add_class.py'))['main']
    main([str(learned), str(data / 'images'), str(data / 'masks'), '--name', 'ring', '--out', str(data / 'out'),
          '--value', '7', '--colour', '1', '2', '3', '--test', str(data / 'images'), str(data / 'tests')])
    entry = read_results(data / 'out')['tasks'][1]
    assert entry['classes'] == ['ring'] and entry['IoU']['ring'] is not None and entry['num_images'] == 12
    printed = capsys.readouterr().out
    assert '| ring ' in printed and printed.endswith(f'ring is learned: {data}/out/task_1/weights.pth\n')
    ours, theirs = (load_state(data / f'{out}/task_1/weights.pth') for out in ('plain', 'out'))
    assert all(torch.equal(value, theirs['state_dict'][key]) for key, value in ours['state_dict'].items())
    assert theirs['meta']['palette'][20] == [1, 2, 3]


@pytest.mark.parametrize(('sizes', 'name'), [
    ((4, ), '4-1'), ((4, 1, 1), '4-1'), ((15, 5), '15-5-1'), ((100, 10, 10), '100-10-10-1')])
def test_tasks_of_any_sizes_go_on(learned, sizes, name):
    classes = [f'c{number}' for number in range(sum(sizes))]
    old = TaskWeights({}, {}, classes, [[0, 0, 0]] * (len(classes) + 1), len(sizes) - 1, '', {})
    cfg = _config(read_recorded_config(learned), old, sizes, 'new', 'images', 'masks', (1, 2, 3))
    assert cfg.scenario.name == name
    assert Scenario(**cfg.scenario).classes_per_task(len(sizes)) == (*sizes, 1)


@pytest.mark.parametrize(('arguments', 'words'), [
    (dict(name='class 3'), r"the class 'class 3' is learned already in .*; give the new class another name"),
    (dict(name='a|b'), r"the class name 'a\|b' .* holds '\|'"),
    (dict(value=None), r'hold several values beside 0 and 255 \(7, 9\); say which is the new class'),
    (dict(value=5), r'no mask in .* holds the value 5 \(.*they hold: 7, 9\)'),
    (dict(saliency='nowhere'), r"saliency is 'nowhere', which is no folder"),
    (dict(colour=(1, 2, 300)), r'colour 20 of metainfo\.palette'),
    (dict(task=3), 'scenario .* has the tasks 0 to 1'),
    (dict(test_images='images'), 'test images and test masks are given one without the other'),
    (dict(options={'model.tua': 1}), "there is no 'tua' in model"),
    (dict(options={'test_dataloader.num_workers': 'map'}), 'a whole number of at least 0'),
    (dict(options={'model.freeze': 'no'}), r"model\.freeze is 'no'; it is True or False"),
    (dict(config='none.py'), 'there is no config'),
])
def test_a_mistake_is_a_sentence_and_leaves_nothing(learned, data, arguments, words):
    if 'name' in arguments and 'class 3' in arguments['name']:
        arguments = dict(name=load_state(learned / 'task_0/weights.pth')['meta']['classes'][2])
        words = words.replace('class 3', arguments['name'])
    with pytest.raises(InputError, match=words):
        add(learned, data, **arguments)
    assert not (data / 'out').exists()


def test_a_folder_that_holds_files_is_left_as_it_is(learned, data):
    with pytest.raises(InputError, match='is there already and is no empty folder'):
        add(learned, data, out='masks')
    assert len(list((data / 'masks').iterdir())) == 12
    (data / 'empty').mkdir()
    (data / 'masks/3.png').unlink()
    with pytest.raises(InputError, match=r'1 of 12 images are left over: .*3\.jpg has no mask'):
        add(learned, data, out='empty')
    assert list((data / 'empty').iterdir()) == []


def test_masks_that_mark_nothing_are_reported(learned, data):
    for path in (data / 'masks').iterdir():
        Image.fromarray(np.where(np.array(Image.open(path)) == 7, 255, 0).astype(np.uint8)).save(path)
    with pytest.raises(InputError, match='mark no class: they hold 0, background, and 255, ignored, alone'):
        add(learned, data, value=None)


def test_a_method_without_a_solution_is_refused(tree, data):
    run_scenario(tiny_config(tree, data / 'mib', 'configs/mib/voc_15-1.py', **OPTIONS), [0])
    with pytest.raises(InputError, match=r'cannot be solved for from .*: MiB has no solver, only training; train it'):
        add(data / 'mib', data)
    assert not (data / 'out').exists()


def test_the_tool_ends_with_exit_code_2(learned, data):
    done = subprocess.run(
        [sys.executable, 'tools/add_class.py', str(learned), str(data / 'images'), str(data / 'masks'),
         '--name', 'ring', '--out', str(data / 'out')], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith('error: the masks in ') and 'Traceback' not in done.stderr
    assert not (data / 'out').exists()


def test_the_options_of_a_config_that_is_given_count(tree, learned, data):
    options = {**tiny_options(tree), **OPTIONS, 'model.tau': 0.9}
    add(learned, data, config=ROOT / 'configs/ssul/voc_15-1.py', options=options)
    assert read_recorded_config(data / 'out').model.tau == 0.9


@pytest.mark.parametrize('images, masks, words', [
    ('imges', 'masks', 'no folder .*imges; give the one that holds its images'),
    ('images', 'msks', 'no folder .*msks; give the one that holds its masks')])
def test_a_folder_that_is_not_there_is_named(learned, data, images, masks, words):
    with pytest.raises(InputError, match=words):
        ssul_mmseg.add_class(learned, data / images, data / masks, 'ring', data / 'none', value=7)
    assert not (data / 'none').exists()
