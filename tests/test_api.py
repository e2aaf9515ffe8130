"""The functions that other programs call."""
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import ROOT, tiny_config, tiny_options, voc_tree

import ssul_mmseg
from ssul_mmseg.errors import InputError
from ssul_mmseg.scenario import BACKGROUND
from ssul_mmseg.work_dir.weights import load_state

CONFIG = str(ROOT / 'configs/ssul/voc_15-1.py')
OPTIONS = {'scenario.name': '19-1', 'train_cfg.max_epochs': 1}
PAGE = (ROOT / 'docs/python_api.md').read_text()


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', 20)


@pytest.fixture(scope='module')
def learned(tree, tmp_path_factory):
    """A work dir of which task 0 of two is learned by the function."""
    work_dir = tmp_path_factory.mktemp('learned') / 'run'
    ssul_mmseg.run(CONFIG, work_dir, [0], options={**tiny_options(tree), **OPTIONS}, seed=3)
    return work_dir


@pytest.fixture
def model(learned):
    return ssul_mmseg.load_model(learned)


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (41, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'photo.png')
    return tmp_path / 'photo.png'


def test_importing_the_package_is_cheap():
    code = ('import sys, ssul_mmseg; ssul_mmseg.__version__; dir(ssul_mmseg); '
            'print(sorted({"torch", "numpy", "mmengine", "mmseg", "PIL"} & set(sys.modules)))')
    assert subprocess.check_output([sys.executable, '-c', code], cwd=ROOT, text=True) == '[]\n'


def test_importing_leaves_the_collection_of_garbage_on():
    code = 'import gc, ssul_mmseg; ssul_mmseg.run; print(gc.isenabled())'
    assert subprocess.check_output([sys.executable, '-c', code], cwd=ROOT, text=True).splitlines()[-1] == 'True'


def test_what_the_package_offers_is_there_and_documented():
    names = [name for name in ssul_mmseg.__all__ if not name.startswith('__')]
    assert {'load_model', 'predict', 'run', 'add_class'} <= set(names)
    for name in names:
        assert getattr(ssul_mmseg, name).__name__ == name and getattr(ssul_mmseg, name).__doc__
        assert name in dir(ssul_mmseg) and re.search(rf'\b{name}\b', PAGE), name
    with pytest.raises(AttributeError, match="has no attribute 'lode_model'"):
        _ = ssul_mmseg.lode_model


def test_run_learns_what_the_tool_learns(tree, learned, tmp_path):
    main = runpy.run_path(str(ROOT / 'tools/train.py'))['main']
    options = (f'{key}={value}'.replace(' ', '') for key, value in {**tiny_options(tree), **OPTIONS}.items())
    main([CONFIG, '--work-dir', str(tmp_path), '--tasks', '0', '--seed', '3', '--cfg-options', *options])
    ours, theirs = (load_state(folder / 'task_0/weights.pth') for folder in (learned, tmp_path))
    assert ours['meta'] == theirs['meta']
    assert all(torch.equal(value, theirs['state_dict'][key]) for key, value in ours['state_dict'].items())


def test_run_leaves_the_config_of_its_caller_as_it_is(tree, learned, tmp_path):
    cfg = tiny_config(tree, tmp_path, **OPTIONS)
    before = str(cfg.to_dict())
    with pytest.raises(InputError, match=r'task 0 is in .* already'):
        ssul_mmseg.run(cfg, learned, [0], seed=9, amp=True)
    assert str(cfg.to_dict()) == before
    with pytest.raises(InputError, match='options are given beside a config that is read already'):
        ssul_mmseg.run(cfg, tmp_path, options={'model.tau': 0.5})


def test_a_work_dir_alone_says_what_its_network_is(tree, learned, model, photo):
    given = ssul_mmseg.load_model(learned, 0, tiny_config(tree, '/elsewhere', **OPTIONS))
    assert len(model.classes) == 20 and model.classes == given.classes and model.palette == given.palette
    ours, theirs = (ssul_mmseg.predict(loaded, photo) for loaded in (model, given))
    assert np.array_equal(ours.labels, theirs.labels) and np.array_equal(ours.scores, theirs.scores)


def test_a_work_dir_without_config_or_task_is_reported(learned, tmp_path):
    with pytest.raises(InputError, match=r'there is no run\.json in .*; give the work dir of a run'):
        ssul_mmseg.load_model(tmp_path)
    with pytest.raises(InputError, match='task 1 is not learned in'):
        ssul_mmseg.load_model(learned, 1)


def test_scores_unknown_and_labels_tell_the_same(model, photo):
    found = ssul_mmseg.predict(model, photo)
    assert found.scores.shape == (21, 41, 70) and found.scores.dtype == np.float32
    assert found.scores.min() >= 0 and found.scores.max() <= 1
    best = found.scores.argmax(0)
    # A sigmoid of large logits rounds to 1: where two scores are equal, the logits decide.
    sure = np.sort(found.scores, axis=0)[-1] > np.sort(found.scores, axis=0)[-2]
    assert sure.mean() > 0.9
    assert np.array_equal(found.unknown[sure], (best == 20)[sure])
    assert np.array_equal(found.labels[sure], np.where(best == 20, BACKGROUND, best)[sure])
    without = ssul_mmseg.predict(model, photo, scores=False)
    assert without.scores is None and np.array_equal(without.labels, found.labels)


def test_unknown_has_a_mask_of_its_own(model, photo):
    with torch.no_grad():
        model.model.decode_head.classifiers['unknown'][-1].bias += 1000
    found = ssul_mmseg.predict(model, photo)
    assert found.unknown.all() and not found.labels.any()
    mask = found.unknown_mask()
    assert mask.size == (70, 41) and np.array(mask).min() == 255


def test_an_image_is_a_file_an_array_or_an_image_of_pillow(model, photo):
    image = Image.open(photo)
    expected = ssul_mmseg.predict(model, photo)
    for given in (str(photo), np.array(image), image, image.convert('RGBA')):
        found = ssul_mmseg.predict(model, given)
        assert np.array_equal(found.scores, expected.scores) and np.array_equal(found.pixels, expected.pixels)
        assert found.overlay().size == (70, 41)
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(InputError, match=r'the image is an array of .*; give uint8 \(height, width, 3\) in RGB'):
            ssul_mmseg.predict(model, wrong)


def test_the_tool_writes_the_mask_of_unknown_on_request(tree, learned, photo, tmp_path):
    main = runpy.run_path(str(ROOT / 'tools/predict.py'))['main']
    options = (f'{key}={value}'.replace(' ', '') for key, value in {**tiny_options(tree), **OPTIONS}.items())
    main([CONFIG, str(learned), str(photo), '--out', str(tmp_path / 'found'), '--unknown', '--cfg-options', *options])
    assert {path.name for path in (tmp_path / 'found').iterdir()} == {
        'photo.png', 'photo_overlay.png', 'photo_unknown.png'}
    mask = np.array(Image.open(tmp_path / 'found/photo_unknown.png'))
    assert np.array_equal(mask == 255, ssul_mmseg.predict(ssul_mmseg.load_model(learned), photo).unknown)
