"""Predictions of images that are in no data set."""
import os
import re
import runpy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps
from tiny import ROOT, tiny_config, tiny_options, voc_tree

from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.prediction import OVERLAY_SIDE, Prediction, Predictor, find_images, output_files, save
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

    def run(*arguments, work_dir=learned):
        main(arguments_of(tree, work_dir, *arguments))
    return run


def arguments_of(tree, work_dir, *arguments):
    options = {**tiny_options(tree), **OPTIONS}
    return [str(ROOT / CONFIG), str(work_dir), *arguments, '--cfg-options',
            *(f'{key}={value}'.replace(' ', '') for key, value in options.items())]


def test_a_mask_and_an_overlay_are_written_and_the_classes_are_printed(predict, photo, tmp_path, capsys):
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


def prediction(labels, unknown=False):
    labels = np.array(labels, np.uint8)
    pixels = np.full((*labels.shape, 3), 100, np.uint8)
    return Prediction('a.jpg', pixels, labels, CLASSES, PALETTE, np.broadcast_to(unknown, labels.shape))


def test_the_summary_names_the_classes_found_by_their_share():
    assert prediction([[0, 2], [2, 2]]).summary() == 'a.jpg: dog 75.0%, background 25.0%'
    found = prediction([[0, 0], [0, 1]], [[False, True], [True, False]]).summary()
    assert found == 'a.jpg: unknown 50.0%, background 25.0%, cat 25.0%'


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


def test_images_that_cannot_be_read_are_reported(predict, photo, tmp_path):
    with pytest.raises(InputError, match=r'there is no image .*none\.jpg; give the paths'):
        predict(photo(), str(tmp_path / 'none.jpg'), '--out', str(tmp_path / 'found'))
    (tmp_path / 'empty').mkdir()
    for argument, kind in (('empty', 'in the folder '), ('*.gif', '')):
        with pytest.raises(InputError, match=re.escape(f'there is no image {kind}{tmp_path / argument}; give')):
            predict(photo(), str(tmp_path / argument), '--out', str(tmp_path / 'found'))
    assert not (tmp_path / 'found').exists()
    (tmp_path / 'torn.jpg').write_bytes((tmp_path / 'photo.jpg').read_bytes()[:500])
    with pytest.raises(InputError, match=r'image .*torn\.jpg cannot be read'):
        predict(str(tmp_path / 'torn.jpg'), '--out', str(tmp_path / 'found'))


def test_a_task_that_is_not_learned_is_reported(predict, photo, tmp_path):
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


def test_a_folder_that_cannot_be_written_is_reported(photo, tmp_path):
    (tmp_path / 'file').write_text('')
    for out in ('file', 'file/found'):
        with pytest.raises(InputError, match=r'cannot be made .*--out'):
            output_files([photo()], str(tmp_path / out))
    (tmp_path / 'found/a.png').mkdir(parents=True)
    with pytest.raises(InputError, match=r'a\.png cannot be written .*--out'):
        save(prediction([[0]]), tmp_path / 'found/a.png', tmp_path / 'found/a_overlay.png')


def test_folders_and_patterns_stand_for_their_images(photo, tmp_path):
    images = {name: photo(name) for name in ('in/b.JPG', 'in/a.png', 'in/a[1].jpeg', 'in/.hidden.jpg', 'in/sub/c.jpg',
                                             'in/notes.txt.jpg', 'd.jpg')}
    (tmp_path / 'in/notes.txt').write_text('')
    folder = [images[name] for name in ('in/a.png', 'in/a[1].jpeg', 'in/b.JPG', 'in/notes.txt.jpg')]
    assert find_images([str(tmp_path / 'in')]) == folder
    assert find_images([images['d.jpg'], str(tmp_path / 'in'), images['in/b.JPG']]) == [images['d.jpg'], *folder]
    assert find_images([str(tmp_path / 'in/*.txt')]) == [str(tmp_path / 'in/notes.txt')]
    assert find_images([str(tmp_path / '**/c.jpg')]) == [images['in/sub/c.jpg']]
    assert find_images([images['in/a[1].jpeg']]) == [images['in/a[1].jpeg']]  # a file comes before a pattern


def test_a_bad_image_does_not_stop_the_others(predict, photo, tmp_path, capsys):
    for name in 'adf':
        photo(f'in/{name}.png')
    for name in 'be':
        (tmp_path / f'in/{name}.jpg').write_bytes(b'no image')
    Image.new('I;16', (4, 4)).save(tmp_path / 'in/c.png')
    with pytest.raises(InputError, match='3 of 6 images are not predicted, for the reasons above; the others are in'):
        predict(str(tmp_path / 'in'), '--out', str(tmp_path / 'found'))
    assert {path.name for path in (tmp_path / 'found').iterdir()} == {
        f'{name}{ending}.png' for name in 'adf' for ending in ('', '_overlay')}
    out, errors = capsys.readouterr()
    assert [line.partition(':')[0] for line in out.splitlines()] == [str(tmp_path / f'in/{n}.png') for n in 'adf']
    errors = [line for line in errors.splitlines() if line.startswith('error: ')]
    assert [name for name, line in zip(('b.jpg', 'c.png', 'e.jpg'), errors, strict=True) if name not in line] == []


def test_bad_images_are_reported_also_where_the_disk_is_full(predict, photo, tmp_path, capsys):
    (tmp_path / 'a.jpg').write_bytes(b'no image')
    (tmp_path / 'found/b.png').mkdir(parents=True)
    with pytest.raises(InputError, match=r'b\.png cannot be written'):
        predict(str(tmp_path / 'a.jpg'), photo('b.jpg'), '--out', str(tmp_path / 'found'))
    assert 'a.jpg is damaged' in capsys.readouterr().err


def test_a_name_that_is_no_text_and_a_bad_image_end_in_exit_code_2(tree, learned, photo, tmp_path):
    """As a user runs it: what is printed goes through the error stream's and the output's encoding."""
    image = os.fsencode(tmp_path) + b'/in/\xff.jpg'
    os.rename(photo('in/a.jpg'), image)
    (tmp_path / 'in/torn.jpg').write_bytes(b'no image')
    done = subprocess.run(
        [sys.executable, 'tools/predict.py', *arguments_of(tree, learned, str(tmp_path / 'in'), '--out',
                                                           str(tmp_path / 'found'))],
        cwd=ROOT, capture_output=True, env={**os.environ, 'PYTHONIOENCODING': 'ascii'}, timeout=120)
    assert done.returncode == 2 and b'Traceback' not in done.stderr, done.stderr
    assert rb'/in/\udcff.jpg: background' in done.stdout
    assert done.stderr.count(b'error: ') == 2 and b'torn.jpg is damaged' in done.stderr
    assert os.path.exists(os.fsencode(tmp_path) + b'/found/\xff.png')


@pytest.mark.parametrize('size', [(1, 1), (1, 40), (40, 1), (2, 1)])
def test_images_of_one_pixel_are_predicted(predict, photo, tmp_path, size):
    predict(photo('thin.png', size), '--out', str(tmp_path / 'found'))
    for name in ('thin', 'thin_overlay'):
        assert Image.open(tmp_path / f'found/{name}.png').size == size


@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_photograph_is_predicted_as_shown_and_its_mask_belongs_to_what_is_stored(predictor, photo, tmp_path,
                                                                                 orientation):
    upright = predictor.predict(photo('upright.png'))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    # Stored so that EXIF shows the upright photograph.
    stored = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270, 2: Image.Transpose.FLIP_LEFT_RIGHT,
              3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
              7: Image.Transpose.TRANSVERSE}
    with Image.open(tmp_path / 'upright.png') as image:
        (image.transpose(stored[orientation]) if orientation > 1 else image).save(tmp_path / 'i.png', exif=exif)
    found = predictor.predict(tmp_path / 'i.png')
    assert np.array_equal(found.pixels, upright.pixels) and np.array_equal(found.labels, upright.labels)
    assert found.overlay().size == (70, 41)
    # As labels that differ everywhere; shown as the photograph is, the mask is upright.
    labels = np.arange(70 * 41, dtype=np.uint8).reshape(41, 70)
    mask = replace(found, labels=labels).mask()
    with Image.open(tmp_path / 'i.png') as image:
        assert mask.size == image.size
    mask.getexif()[ExifTags.Base.Orientation] = orientation
    assert np.array_equal(np.array(ImageOps.exif_transpose(mask)), labels)


def test_a_picture_that_is_too_large_is_refused(predictor, photo, monkeypatch):
    image = photo()
    with monkeypatch.context() as patch:
        patch.setattr(predictor.model, 'test_step', lambda data: torch.empty(10**15))
        with pytest.raises(InputError, match=r'photo\.jpg of 70 x 41 pixels is too large for the memory \(.*allocate'):
            predictor.predict(image)
        patch.setattr(predictor.model, 'test_step', lambda data: torch.empty(2) @ torch.empty(3))
        with pytest.raises(RuntimeError, match='size'):  # a fault of the program keeps its traceback
            predictor.predict(image)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    with pytest.raises(InputError, match=r'photo\.jpg cannot be read .*too large: make it smaller'):
        predictor.predict(image)
