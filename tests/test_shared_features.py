"""What is kept of the test images for later tasks and other runs."""
import shutil

import pytest
import torch
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine.feature_cache import FeatureCache
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.shared_features import TestFeatures
from ssul_mmseg.models import IncrementalSegmentor

OPTIONS = {'scenario.name': '19-1', 'train_cfg.max_epochs': 1, 'incremental': dict(train_cfg=dict(max_epochs=2))}


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc')


@pytest.fixture(scope='module')
def base(tree, tmp_path_factory):
    """A learned base task to start all runs from."""
    work_dir = tmp_path_factory.mktemp('base')
    run_scenario(tiny_config(tree, work_dir, **OPTIONS), range(1))
    return work_dir


@pytest.fixture
def passed(monkeypatch):
    """Tasks of which test images pass the backbone, one entry per batch."""
    seen = []
    maps = IncrementalSegmentor.backbone_maps
    monkeypatch.setattr(IncrementalSegmentor, 'backbone_maps', lambda self, x: (
        None if self.training else seen.append(self.task), maps(self, x))[1])
    return seen


def run(tree, base, work_dir, folder, **options):
    """Learn task 1; returns its IoU."""
    cache = dict(views=1, test_folder=str(folder), **options.pop('cache', {}))
    cfg = tiny_config(tree, work_dir, **{**OPTIONS, 'feature_cache': cache, **options})
    return run_scenario(cfg, (1, ), start_from=base)['tasks'][1]['IoU']


def test_another_run_of_the_same_trunk_passes_no_test_image(tree, base, tmp_path, passed):
    folder = tmp_path / 'kept'
    first = run(tree, base, tmp_path / 'a', folder)
    assert passed and len(list(folder.iterdir())) == 1
    passed.clear()
    # Another method of the same trunk, and other weights of its classifiers.
    second = run(tree, base, tmp_path / 'b', folder)
    other = run(tree, base, tmp_path / 'c', folder, **{'model.weight_transfer': 'random', 'randomness.seed': 3})
    assert not passed and len(list(folder.iterdir())) == 1
    alone = run(tree, base, tmp_path / 'd', tmp_path / 'of its own', **{
        'model.weight_transfer': 'random', 'randomness.seed': 3})
    assert first == second and other == alone


@pytest.mark.parametrize('options', [
    {'test_size': 12}, {'cache': {'dtype': 'float32'}}, {'model.data_preprocessor.mean': [1., 2., 3.]},
    {'model.channels_last': False}, {'scenario.order': [2, 1, *range(3, 21)]},
], ids=str)
def test_what_changes_a_feature_or_a_label_has_a_file_of_its_own(tree, base, tmp_path, passed, options):
    run(tree, base, tmp_path / 'a', tmp_path / 'kept')
    passed.clear()
    start = base
    if 'scenario.order' in options:
        start = tmp_path / 'base'
        run_scenario(tiny_config(tree, start, **OPTIONS, **options), range(1))
        passed.clear()
    run(tree, start, tmp_path / 'b', tmp_path / 'kept', **options)
    assert passed and len(list((tmp_path / 'kept').iterdir())) == 2


def test_a_changed_mask_is_seen(tree, base, tmp_path, passed):
    own = tmp_path / 'voc'
    shutil.copytree(tree, own)
    run(own, base, tmp_path / 'a', tmp_path / 'kept')
    passed.clear()
    masks = sorted((own / 'SegmentationClassAug').iterdir())
    shutil.copy(masks[0], masks[-1])
    run(own, base, tmp_path / 'b', tmp_path / 'kept')
    assert passed


@pytest.fixture
def warnings(monkeypatch):
    """Warnings about the folder."""
    found = []
    monkeypatch.setattr('ssul_mmseg.engine.shared_features.print_log', lambda text, **_: found.append(text))
    return found


def test_a_damaged_file_is_made_anew(tree, base, tmp_path, passed, warnings):
    folder = tmp_path / 'kept'
    first = run(tree, base, tmp_path / 'a', folder)
    path, = folder.iterdir()
    path.write_bytes(path.read_bytes()[:5000])
    passed.clear()
    assert run(tree, base, tmp_path / 'b', folder) == first
    assert passed and 'cannot be read' in warnings[0]
    passed.clear()
    assert run(tree, base, tmp_path / 'c', folder) == first and not passed


def test_a_folder_that_cannot_be_written_costs_a_warning_alone(tree, base, tmp_path, warnings):
    (tmp_path / 'kept').write_text('a file')
    assert run(tree, base, tmp_path / 'a', tmp_path / 'kept')
    assert 'are not kept for other runs: cannot write' in warnings[0]


def test_features_that_do_not_fit_are_kept_for_no_other_run(tree, base, tmp_path):
    run(tree, base, tmp_path / 'a', tmp_path / 'kept', cache={'limit': 2e-5})
    assert not (tmp_path / 'kept').exists()


def test_another_network_drops_the_features():
    store = TestFeatures()
    first = store.of('a', str, limit=.001)
    first.put(0, [torch.zeros(1, 1, 1)], torch.zeros(1, 1, dtype=torch.uint8))
    assert store.of('a', str, limit=.001) is first
    assert isinstance(store.of('b', str, limit=.001), FeatureCache) and len(first) == 0
