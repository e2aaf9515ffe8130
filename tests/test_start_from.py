"""A run that starts from what another has learned."""
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config, voc_tree

from ssul_mmseg.datasets import class_index
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.work_dir.weights import load_state

CONFIG = 'configs/ssul/voc_15-1_m.py'
OPTIONS = {'scenario.name': '18-1', 'train_cfg.max_epochs': 1, 'memory.size': 20}


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc')


@pytest.fixture(scope='module')
def other(tree, tmp_path_factory):
    """A whole run of SSUL-M."""
    work_dir = tmp_path_factory.mktemp('other') / 'run'
    run_scenario(tiny_config(tree, work_dir, CONFIG, **OPTIONS))
    return work_dir


@pytest.fixture(scope='module')
def without_memory(tree, tmp_path_factory):
    """Task 0 of SSUL, whose weights are those of SSUL-M."""
    work_dir = tmp_path_factory.mktemp('plain') / 'run'
    options = {key: value for key, value in OPTIONS.items() if key != 'memory.size'}
    run_scenario(tiny_config(tree, work_dir, **options), range(1))
    return work_dir


def assert_same(work_dir, expected):
    for task in range(3):
        for name in ('weights.pth', 'memory.json'):
            ours, theirs = (place / f'task_{task}' / name for place in (work_dir, expected))
            if name == 'memory.json':
                assert ours.read_bytes() == theirs.read_bytes()
                continue
            state, whole = (load_state(path)['state_dict'] for path in (ours, theirs))
            assert all(torch.equal(state[key], value) for key, value in whole.items())
    assert json.loads((work_dir / 'results.json').read_text())['final'] == (
        json.loads((expected / 'results.json').read_text())['final'])


@pytest.mark.parametrize('tasks', [None, range(1, 3)], ids=str)
def test_a_run_goes_on_from_a_copied_task_as_its_own_would(tree, other, tmp_path, tasks):
    (tmp_path / 'base').mkdir()
    (tmp_path / 'base/task_0').symlink_to(other / 'task_0')
    work_dir = tmp_path / 'run'
    run_scenario(tiny_config(tree, work_dir, CONFIG, **OPTIONS), tasks, start_from=tmp_path / 'base')
    assert not (work_dir / 'task_0').is_symlink()
    assert_same(work_dir, other)


def test_masks_are_not_scanned_again_unless_they_are_others(tree, other, tmp_path, monkeypatch):
    scanned = []
    scan = class_index.scan_masks
    monkeypatch.setattr(class_index, 'scan_masks',
                        lambda paths, workers, quiet: scanned.append(paths[0]) or scan(paths, workers, quiet))
    run_scenario(tiny_config(tree, tmp_path / 'run', CONFIG, **OPTIONS), range(1, 2), start_from=other)
    assert scanned == []
    others = voc_tree(tmp_path / 'voc', 20)
    options = {key: value for key, value in OPTIONS.items() if key != 'memory.size'}
    run_scenario(tiny_config(others, tmp_path / 'others', **options), range(1, 2), start_from=other)
    assert len(scanned) == 2 and all(path.startswith(str(others)) for path in scanned)


def test_exemplars_are_chosen_anew_where_the_other_run_has_none(tree, other, without_memory, tmp_path):
    run_scenario(tiny_config(tree, tmp_path / 'run', CONFIG, **OPTIONS), start_from=without_memory)
    assert_same(tmp_path / 'run', other)


def test_exemplars_are_chosen_anew_for_a_memory_of_another_size(tree, other, tmp_path):
    (tmp_path / 'base').mkdir()
    (tmp_path / 'base/task_0').symlink_to(other / 'task_0')
    options = {**OPTIONS, 'memory.size': 5}
    run_scenario(tiny_config(tree, tmp_path / 'run', CONFIG, **options), range(1, 2), start_from=tmp_path / 'base')
    manifest = json.loads((tmp_path / 'run/task_0/memory.json').read_text())
    assert manifest['size'] == len(manifest['exemplars']) == 5
    entry = json.loads((tmp_path / 'run/task_1/result.json').read_text())
    assert entry['memory'] == 5


def test_a_run_that_started_elsewhere_is_resumed_with_or_without_saying_so(tree, other, tmp_path):
    cfg = tiny_config(tree, tmp_path / 'run', CONFIG, **OPTIONS)
    (tmp_path / 'base').mkdir()
    (tmp_path / 'base/task_0').symlink_to(other / 'task_0')
    run_scenario(cfg, range(1, 2), start_from=tmp_path / 'base')
    with pytest.raises(InputError, match=r'task 0 is in .* already; .*or add --resume'):
        run_scenario(cfg, start_from=tmp_path / 'base')
    run_scenario(cfg, resume=True, start_from=tmp_path / 'base')
    assert_same(tmp_path / 'run', other)


@pytest.mark.parametrize('start_from, tasks, words', [
    ('nowhere', None, 'there is no learned task in'), ('whole', None, 'has learned all 3 tasks'),
    ('run', range(3, 4), 'task'), ('run', range(1), 'task 0 starts')])
def test_what_is_not_learned_cannot_be_started_from(tree, without_memory, other, tmp_path, start_from, tasks, words):
    source = other if start_from == 'whole' else without_memory.parent / start_from
    with pytest.raises(InputError, match=words):
        run_scenario(tiny_config(tree, tmp_path / 'run', CONFIG, **OPTIONS), tasks, start_from=source)
    assert not list((tmp_path / 'run').glob('task_*/*.pth'))


def test_a_run_of_two_learned_tasks_goes_on_with_the_third(tree, other, tmp_path):
    (tmp_path / 'base').mkdir()
    for task in (0, 1):
        (tmp_path / f'base/task_{task}').symlink_to(other / f'task_{task}')
    run_scenario(tiny_config(tree, tmp_path / 'run', CONFIG, **OPTIONS), start_from=tmp_path / 'base')
    assert_same(tmp_path / 'run', other)
    # Where a task is learned, there is its log.
    assert [bool(list((tmp_path / f'run/task_{task}').rglob('*.log'))) for task in range(3)] == [False, False, True]
    ours, theirs = (json.loads((place / 'results.json').read_text())['tasks'] for place in (tmp_path / 'run', other))
    free = {'seconds': 0, 'peak_memory': 0}
    assert [{**entry, **free} for entry in ours] == [{**entry, **free} for entry in theirs]


@pytest.mark.parametrize('method', [
    {'model.type': 'Analytic'}, {'model.draws': 300, 'incremental.solver.type': 'Newton'}, {'model.type': 'IPSeg'},
], ids=['Analytic', 'draws', 'IPSeg'])
def test_what_a_method_keeps_of_task_0_is_made_of_another_methods(tree, without_memory, tmp_path, method):
    """Weights and states end in the same bits as after a task 0 of its own, also in a run that goes on."""
    options = {**{key: value for key, value in OPTIONS.items() if key != 'memory.size'}, **method}
    own, work_dir = tmp_path / 'own', tmp_path / 'run'
    run_scenario(tiny_config(tree, own, **options), range(2))
    run_scenario(tiny_config(tree, work_dir, **options), (1, ), start_from=without_memory)
    (work_dir / 'task_1/weights.pth').unlink()
    run_scenario(tiny_config(tree, work_dir, **options), (1, ), start_from=without_memory, resume=True)
    for task in range(2):
        ours, expected = (load_state(place / f'task_{task}/weights.pth') for place in (work_dir, own))
        for part in ('state_dict', 'method_state'):
            assert ours[part].keys() == expected[part].keys()
            assert all(torch.equal(ours[part][key], value) for key, value in expected[part].items())


def test_without_the_images_of_task_0_a_sentence_says_what_is_missing(tree, without_memory, tmp_path):
    cfg = tiny_config(tree, tmp_path, **{'scenario.name': '18-1', 'model.type': 'Analytic'})
    cfg.train_dataloader.dataset.dataset.ann_file = str(tmp_path / 'list.txt')
    names = (tree / 'ImageSets/Segmentation/train_aug.txt').read_text().split()
    shown = {name: set(np.unique(Image.open(tree / f'SegmentationClassAug/{name}.png'))) for name in names}
    new = [name for name, labels in shown.items() if not labels & set(range(1, 19))]
    (tmp_path / 'list.txt').write_text('\n'.join(new))
    with pytest.raises(InputError, match=r'keeps nothing of task 0 that Analytic needs .* can be made of its images'):
        run_scenario(cfg, (1, ), start_from=without_memory)
