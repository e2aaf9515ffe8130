"""Predictions of images that are in no data set."""
import runpy

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import ROOT, tiny_config, tiny_options, voc_tree

from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.prediction import OVERLAY_SIDE, Prediction, Predictor, output_files, save
from ssul_mmseg.scenario import UNKNOWN

CONFIG = 'configs/ssul/voc_15-1.py'
OPTIONS = {'scenario.name': '19-1', 'train_cfg.max_epochs': 1}
CLASSES, PALETTE = ('background', 'cat', 'dog'), [[0, 0, 0], [200, 0, 0], [0, 0, 200]]


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', 20)


@pytest.fixture(scope='module')
def learned(tree, tmp_path_factory):
    """A work dir in which task 0 of two is learned."""
    work_dir = tmp_path_factory.mktemp('learned')
    run_scenario(tiny_config(tree, work_dir, CONFIG, **OPTIONS), range(1))
    return work_dir


@pytest.fixture
def predictor(tree, learned):
    return Predictor(tiny_config(tree, learned, CONFIG, **OPTIONS), 0)


@pytest.fixture
def photo(tmp_path):
    """A function that writes an image of a size and returns its path."""
    def write(name='photo.jpg', size=(70, 41)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
        return str(tmp_path / name)
    return write


@pytest.fixture
def predict(tree, learned):
    """The tool's main, on the learned work dir."""
    main = runpy.run_path(str(ROOT / 'tools/predict.py'))['main']
    options = {**tiny_options(tree), **OPTIONS}

    def run(*arguments, work_dir=learned):
        main([str(ROOT / CONFIG), str(work_dir), *arguments, '--cfg-options',
              *(f'{key}={value}'.replace(' ', '') for key, value in options.items())])
    return run


def test_a_mask_and_an_overlay_are_written_and_the_classes_told(predict, photo, tmp_path, capsys):
    image = photo()
    predict(image, '--out', str(tmp_path / 'found'))
    mask = Image.open(tmp_path / 'found/photo.png')
    assert mask.mode == 'P' and mask.size == (70, 41) and np.array(mask).max() <= 19
    assert mask.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
    assert Image.open(tmp_path / 'found/photo_overlay.png').size == (70, 41)
    line, = capsys.readouterr().out.splitlines()
    assert line.startswith(f'{image}: ') and line.endswith('%')


def test_images_are_predicted_whole_and_in_their_own_size(predictor, photo):
    # The test pipeline of VOC would crop the centre square.
    for size in ((70, 41), (33, 90), (1, 1)):
        assert predictor.predict(photo(size=size)).labels.shape == size[::-1]


def test_a_prediction_is_the_networks_on_the_whole_image(predictor, photo):
    found = predictor.predict(photo('photo.png'))
    inputs = torch.from_numpy(found.pixels.transpose(2, 0, 1).copy()).float().unsqueeze(0)
    mean, std = (torch.tensor(predictor.model.data_preprocessor.__getattr__(key)) for key in ('mean', 'std'))
    expected = predictor.model.predict((inputs - mean) / std)[0].pred_sem_seg.data[0].numpy()
    assert np.array_equal(found.labels, np.where(expected == UNKNOWN, 0, expected))


def test_unknown_is_background(predictor, photo):
    with torch.no_grad():
        predictor.model.decode_head.classifiers['unknown'][-1].bias += 1000
    assert not predictor.predict(photo()).labels.any()


def test_a_resize_of_the_test_pipeline_is_undone(tree, learned, photo):
    cfg = tiny_config(tree, learned, CONFIG, **OPTIONS)
    cfg.test_dataloader.dataset.pipeline[2] = dict(type='Resize', scale=(24, 24), keep_ratio=False)
    assert Predictor(cfg, 0).predict(photo()).labels.shape == (41, 70)


def test_names_and_colours_come_with_the_weights(tree, learned, tmp_path, photo):
    cfg = tiny_config(tree, learned, CONFIG, **OPTIONS)
    metainfo = Run(cfg).test_data(task_config(cfg, 0)).metainfo
    predictor = Predictor(tiny_config(tmp_path / 'no_data', learned, CONFIG, **OPTIONS), 0)
    assert predictor.classes == metainfo['classes'][:20] and predictor.palette == metainfo['palette'][:20]
    assert predictor.predict(photo()).labels.shape == (41, 70)


def prediction(labels):
    labels = np.array(labels, np.uint8)
    return Prediction('a.jpg', np.full((*labels.shape, 3), 100, np.uint8), labels, CLASSES, PALETTE)


def test_the_summary_names_the_classes_found_by_their_share():
    assert prediction([[0, 2], [2, 2]]).summary() == 'a.jpg: dog 75.0%, background 25.0%'


def test_the_mask_holds_labels_and_colours():
    mask = prediction([[0, 2], [1, 2]]).mask()
    assert np.array(mask).tolist() == [[0, 2], [1, 2]]
    assert np.array(mask.convert('RGB'))[1, 1].tolist() == [0, 0, 200]


def test_the_overlay_shows_image_and_labels_and_is_not_too_large():
    labels = np.zeros((900, 1600), np.uint8)
    labels[:, 800:] = 2
    overlay = np.array(prediction(labels).overlay())
    assert overlay.shape == (OVERLAY_SIDE * 9 // 16, OVERLAY_SIDE, 3)
    assert overlay[-1, -1].tolist() == [50, 50, 150] and overlay[-1, 0].tolist() == [50, 50, 50]


def test_images_that_cannot_be_read_are_told(predict, photo, tmp_path):
    with pytest.raises(InputError, match=r'there is no image .*none\.jpg; give the paths'):
        predict(photo(), str(tmp_path / 'none.jpg'), '--out', str(tmp_path / 'found'))
    with pytest.raises(InputError, match='there is no image'):
        predict(str(tmp_path), '--out', str(tmp_path / 'found'))
    assert not (tmp_path / 'found').exists()
    (tmp_path / 'torn.jpg').write_bytes((tmp_path / 'photo.jpg').read_bytes()[:500])
    with pytest.raises(InputError, match=r'image .*torn\.jpg cannot be read'):
        predict(str(tmp_path / 'torn.jpg'), '--out', str(tmp_path / 'found'))


def test_a_task_that_is_not_learned_is_told(predict, photo, tmp_path):
    arguments = photo(), '--out', str(tmp_path / 'found')
    with pytest.raises(InputError, match=r'task 1 is not learned in .*, which holds 0; choose one of them'):
        predict(*arguments, '--task', '1')
    with pytest.raises(InputError, match='there is no learned task in'):
        predict(*arguments, work_dir=tmp_path)


def test_no_file_is_written_twice_or_over_an_image(photo, tmp_path):
    out = str(tmp_path / 'found')
    for names in (('a.jpg', 'a.png'), ('x/a.jpg', 'y/a.jpg'), ('a.jpg', 'a_overlay.jpg'), ('a.jpg', 'a.jpg')):
        with pytest.raises(InputError, match=r'would both be written to .*; rename one'):
            output_files([photo(name) for name in names], out)
    with pytest.raises(InputError, match=r'a\.png would be written over an image'):
        output_files([photo('a.png')], str(tmp_path))


def test_a_folder_that_cannot_be_written_is_told(photo, tmp_path):
    (tmp_path / 'file').write_text('')
    for out in ('file', 'file/found'):
        with pytest.raises(InputError, match=r'cannot be made .*--out'):
            output_files([photo()], str(tmp_path / out))
    (tmp_path / 'found/a.png').mkdir(parents=True)
    with pytest.raises(InputError, match=r'a\.png cannot be written .*--out'):
        save(prediction([[0]]), tmp_path / 'found/a.png', tmp_path / 'found/a_overlay.png')
