import weakref

import pytest
import torch
from mmengine.hooks import Hook
from mmseg.registry import HOOKS, MODELS
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine import loops
from ssul_mmseg.engine.feature_cache import FeatureCache
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import evaluate_task, run_scenario
from ssul_mmseg.engine.shared_features import TestFeatures
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.models import IncrementalSegmentor
from ssul_mmseg.work_dir.weights import load_state

OPTIONS = {'scenario.name': '19-1', 'train_cfg.max_epochs': 1, 'incremental': dict(train_cfg=dict(max_epochs=4))}


@MODELS.register_module()
class Plain(IncrementalSegmentor):
    """What all methods share: everything learns in every task."""


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc')


@pytest.fixture(scope='module')
def base(tree, tmp_path_factory):
    """A learned base task to start all runs from."""
    work_dir = tmp_path_factory.mktemp('base')
    run_scenario(tiny_config(tree, work_dir, 'configs/ssul/voc_15-1_m.py', **OPTIONS, **{'memory.size': 10}), range(1))
    return work_dir


def run(tree, base, work_dir, **options):
    """Train task 1; returns its weights and its metrics."""
    work_dir.mkdir()
    (work_dir / 'task_0').symlink_to(base / 'task_0')
    cfg = tiny_config(tree, work_dir, 'configs/ssul/voc_15-1_m.py', **OPTIONS, **{'memory.size': 10}, **options)
    entry = run_scenario(cfg, range(1, 2))['tasks'][1]
    return load_state(work_dir / 'task_1/weights.pth')['state_dict'], entry['IoU']


@pytest.mark.parametrize('other', [{'location': 'disk'}, {'limit': 2e-5}, {'limit': 0.}], ids=str)
def test_where_and_how_much_is_kept_does_not_matter(tree, base, tmp_path, other):
    whole, iou = run(tree, base, tmp_path / 'a', feature_cache=dict(views=2))
    part, part_iou = run(tree, base, tmp_path / 'b', feature_cache=dict(views=2, **other))
    assert iou == part_iou
    for key, value in whole.items():
        assert torch.equal(part[key], value), key
    assert not list((tmp_path / 'b').rglob('*features_*'))


def test_one_view_per_epoch_equals_no_cache(tree, base, tmp_path):
    """With as many views as epochs nothing is reused: only the rounding of features differs, here none."""
    plain, iou = run(tree, base, tmp_path / 'a')
    kept, kept_iou = run(tree, base, tmp_path / 'b', feature_cache=dict(views=1000, dtype='float32'))
    assert iou == kept_iou
    for key, value in plain.items():
        torch.testing.assert_close(kept[key], value, rtol=1e-4, atol=1e-5)


def test_maps_of_a_frozen_backbone_teach_neck_and_head_what_images_teach(tree, tmp_path):
    """With as many views as epochs, as above; the old model sees the maps through its own neck."""
    options = {
        'scenario.name': '19-1', 'model.freeze': False, 'model.freeze_backbone': True, 'model.tau': .01,
        'model.neck': dict(type='FPN', in_channels=[32], out_channels=8, num_outs=1),
        'model.decode_head.in_channels': 8,
        'incremental': dict(train_cfg=dict(max_epochs=6), optim_wrapper=dict(optimizer=dict(lr=.1)))}
    weights = {}
    for name, cache in (('plain', None), ('kept', dict(views=1000, dtype='float32'))):
        run_scenario(tiny_config(tree, tmp_path / name, **options, feature_cache=cache))
        weights[name] = load_state(tmp_path / name / 'task_1/weights.pth')['state_dict']
    for key, value in weights['plain'].items():
        torch.testing.assert_close(weights['kept'][key], value, rtol=1e-3, atol=1e-4)


def test_half_precision_changes_the_test_metrics_by_little(tree, base, tmp_path):
    work_dir = tmp_path / 'a'
    run(tree, base, work_dir, feature_cache=dict(views=2))
    results = {}
    for dtype in ('float16', 'float32'):
        cfg = tiny_config(tree, work_dir, 'configs/ssul/voc_15-1_m.py', **OPTIONS, feature_cache=dict(dtype=dtype))
        learned = Run(cfg)
        first, again = evaluate_task(learned, 1), evaluate_task(learned, 1)
        assert first == again  # the second is made from the cache
        results[dtype] = first['mIoU_all']
    cfg = tiny_config(tree, work_dir, 'configs/ssul/voc_15-1_m.py', **OPTIONS)
    plain = evaluate_task(Run(cfg), 1)['mIoU_all']
    assert results['float32'] == pytest.approx(plain, abs=1e-6)
    assert results['float16'] == pytest.approx(plain, abs=.01)


@pytest.mark.parametrize('other', [{}, {'limit': 2e-5}, {'limit': 0.}], ids=str)
def test_an_epoch_passes_what_it_lacks_and_less_than_a_group_more(tree, tmp_path, monkeypatch, other):
    """Thirteen images, batches of ten, half of them exemplars: each epoch leaves out three others of the thirteen."""
    passed, lacking, held = [], [], []
    maps, groups = IncrementalSegmentor.backbone_maps, loops.due_groups
    monkeypatch.setattr(IncrementalSegmentor, 'backbone_maps', lambda self, x: (
        passed[-1].append(len(x)) if self.training and self.task else None, maps(self, x))[1])

    def due_groups(batches, kept, size):
        lacking.append(len({key for batch in batches for key in batch if key not in kept}))
        passed.append([])
        return groups(batches, kept, size)
    monkeypatch.setattr(loops, 'due_groups', due_groups)
    copy_out = FeatureCache.copy_out
    monkeypatch.setattr(FeatureCache, 'copy_out',
                        lambda *args: held.append(weakref.ref(entry := copy_out(*args))) or entry)
    options = {**OPTIONS, 'scenario.name': '15-5', 'memory.size': 10, 'train_dataloader.batch_size': 10}
    document = run_scenario(tiny_config(tree, tmp_path, 'configs/ssul/voc_15-1_m.py', **options,
                                        feature_cache=dict(views=2, **other)))
    assert document['tasks'][1]['num_images'] == 13
    assert len(passed) == 4 and all(set(sizes) <= {5} for sizes in passed)
    for sizes, missing in zip(passed, lacking, strict=True):
        assert missing <= sum(sizes) < missing + 5
    assert min(lacking) > 8 if other == {'limit': 0.} else 0 < lacking[2] < lacking[0]
    assert bool(held) == bool(other) and not any(entry() for entry in held)


def test_images_pass_the_trunk_once(tree, base, tmp_path, monkeypatch):
    passed = []
    maps = IncrementalSegmentor.backbone_maps
    monkeypatch.setattr(IncrementalSegmentor, 'backbone_maps', lambda self, x: passed.append(len(x)) or maps(self, x))
    run(tree, base, tmp_path / 'a', feature_cache=dict(views=1))
    # One view each of the 4 images of D_1 and of 10 exemplars, of which some come twice in the epoch that caches them,
    # and 40 test images. Without the cache it would be 4 epochs x 2 batches x 4 images, and 40.
    assert sum(passed) <= 4 + 10 + 2 + 40


def test_a_backbone_frozen_from_the_start_sees_a_view_once_and_the_head_learns_as_without_a_cache(tree, tmp_path,
                                                                                              monkeypatch):
    passed = []
    maps = IncrementalSegmentor.backbone_maps
    monkeypatch.setattr(IncrementalSegmentor, 'backbone_maps', lambda self, x: (
        passed.append(len(x)) if self.training else None, maps(self, x))[1])
    options = {**OPTIONS, 'train_cfg.max_epochs': 4, 'model.freeze_backbone': True}
    states = []
    for name, cache in (('kept', dict(views=2)), ('once', dict(views=1000, dtype='float32')), ('plain', None)):
        passed.clear()
        run_scenario(tiny_config(tree, tmp_path / name, **options, feature_cache=cache), range(1))
        states.append(load_state(tmp_path / f'{name}/task_0/weights.pth')['state_dict'])
        # Four epochs of 40 images; with two views an epoch's uncached images are filled up to groups of four.
        assert sum(passed) == 80 if name == 'kept' else sum(passed) == 160
    kept, once, plain = states
    for key, value in plain.items():
        torch.testing.assert_close(once[key], value, rtol=1e-4, atol=1e-5)
    moved = {key for key, value in plain.items() if key.endswith('weight') and not torch.equal(kept[key], value)}
    assert moved and not any(key.startswith('backbone.') for key in moved)
    assert any('aspp_modules' in key for key in moved)


def test_test_images_pass_the_trunk_once_in_all_tasks(tree, base, tmp_path, monkeypatch):
    passed = []
    maps = IncrementalSegmentor.backbone_maps
    monkeypatch.setattr(IncrementalSegmentor, 'backbone_maps', lambda self, x: (
        None if self.training else passed.append(self.task), maps(self, x))[1])
    options = {**OPTIONS, 'scenario.name': '18-1', 'memory.size': 10, 'feature_cache': dict(views=1)}
    run_scenario(tiny_config(tree, tmp_path, 'configs/ssul/voc_15-1_m.py', **options))
    assert passed == [0] * 5  # five batches


def test_test_images_pass_a_frozen_backbone_once_though_the_head_goes_on_learning(tree, tmp_path, monkeypatch):
    passed, results = [], []
    maps = IncrementalSegmentor.backbone_maps
    monkeypatch.setattr(IncrementalSegmentor, 'backbone_maps', lambda self, x: (
        None if self.training else passed.append(self.task), maps(self, x))[1])
    options = {**OPTIONS, 'scenario.name': '18-1', 'model.freeze': False, 'model.freeze_backbone': True}
    for name, cache in (('kept', dict(views=1000, dtype='float32')), ('plain', None)):
        passed.clear()
        results.append(run_scenario(tiny_config(tree, tmp_path / name, **options, feature_cache=cache))['final'])
        assert passed == ([0] * 5 if cache else [0] * 5 + [1] * 5 + [2] * 5)
    assert results[0] == pytest.approx(results[1], abs=.05)


@pytest.mark.parametrize('options', [{'model.freeze': False}, {'scenario.joint': True}, {'model.type': 'Plain'}],
                         ids=str)
def test_where_the_trunk_goes_on_learning_or_no_task_follows_no_test_feature_is_kept(tree, tmp_path, monkeypatch,
                                                                                   options):
    kept = []
    monkeypatch.setattr(TestFeatures, 'of', lambda *args, **_: kept.append(args))
    options = {**OPTIONS, 'incremental.train_cfg.max_epochs': 1, 'feature_cache': dict(views=1), **options}
    assert run_scenario(tiny_config(tree, tmp_path, **options))['final']['all'] >= 0
    assert not kept


@pytest.mark.parametrize('cache', [None, dict(views=1, dtype='float32')], ids=str)
def test_a_task_is_tested_on_the_images_of_its_own_config(tree, tmp_path, cache):
    options = {**OPTIONS, 'incremental': dict(test_size=12), 'feature_cache': cache}
    cfg = tiny_config(tree, tmp_path, **options)
    tasks = run_scenario(cfg)['tasks']
    for task in (0, 1):
        assert evaluate_task(Run(cfg), task)['IoU'] == tasks[task]['IoU']
    assert [Run(cfg).test_data(task_config(cfg, task))[0]['inputs'].shape[1] for task in (0, 1)] == [24, 12]


@HOOKS.register_module()
class WatchModes(Hook):
    """Notes, by task, whether any part of the network is in training mode while it is tested."""

    seen = None

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        WatchModes.seen.add((runner.task, any(module.training for module in runner.model.modules())))


@pytest.mark.parametrize('cache', [None, dict(views=1)], ids=str)
def test_the_network_that_was_trained_is_tested_in_evaluation_mode(tree, tmp_path, cache):
    cfg = tiny_config(tree, tmp_path, **{**OPTIONS, 'incremental.train_cfg.max_epochs': 1, 'feature_cache': cache})
    cfg.custom_hooks = [dict(type='WatchModes')]
    WatchModes.seen = set()
    run_scenario(cfg)
    assert WatchModes.seen == {(0, False), (1, False)}


def test_training_and_test_features_share_the_limit(tree, base, tmp_path, monkeypatch):
    limits = []
    close = FeatureCache.close
    monkeypatch.setattr(FeatureCache, 'close', lambda self: limits.append((self.limit, self.used)) or close(self))
    options = {**OPTIONS, 'scenario.name': '18-1', 'memory.size': 10, 'feature_cache': dict(views=1, limit=2e-5)}
    run_scenario(tiny_config(tree, tmp_path, 'configs/ssul/voc_15-1_m.py', **options))
    *training, (test_limit, tested) = limits
    assert test_limit == 10_000 >= tested > 8000
    assert training == [(20_000 - tested, used) for _, used in training] and len(training) == 2



def test_views_must_be_a_number(tree, base, tmp_path):
    with pytest.raises(InputError, match=r'feature_cache\.views is 0'):
        run(tree, base, tmp_path / 'a', feature_cache=dict(views=0))
