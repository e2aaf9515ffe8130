import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS
from PIL import Image

from ssul_mmseg.datasets.masks import read_mask
from ssul_mmseg.datasets.shapes import dataset as shapes
from ssul_mmseg.datasets.shapes.dataset import ShapesDataset, make_shapes
from ssul_mmseg.errors import InputError

TINY = dict(num_train=4, num_test=2, size=48)
TRAIN = [f'train_{i:06d}' for i in range(4)]
TEST = ['test_000000', 'test_000001']


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    root = tmp_path_factory.mktemp('tiny') / 'shapes'
    make_shapes(root, seed=3, **TINY)
    return root


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob('*') if path.is_file()}


def times(root):
    return {path: path.stat().st_mtime_ns for path in root.parent.rglob('*')}


def test_layout_is_that_of_voc(tiny):
    names = TRAIN + TEST
    assert set(contents(tiny)) == {
        'shapes.json', 'ImageSets/Segmentation/train.txt', 'ImageSets/Segmentation/test.txt',
        *(f'JPEGImages/{name}.jpg' for name in names), *(f'SegmentationClass/{name}.png' for name in names),
        *(f'SaliencyMap/{name}.png' for name in names)}
    assert (tiny / 'ImageSets/Segmentation/train.txt').read_text().split() == TRAIN
    assert (tiny / 'ImageSets/Segmentation/test.txt').read_text().split() == TEST
    assert list(tiny.parent.iterdir()) == [tiny], 'a temporary folder was left behind'


def test_files_are_an_image_an_indexed_mask_and_one_channel_of_saliency(tiny):
    for name in TRAIN + TEST:
        with Image.open(tiny / f'JPEGImages/{name}.jpg') as image:
            assert (image.mode, image.size) == ('RGB', (48, 48))
        with Image.open(tiny / f'SegmentationClass/{name}.png') as mask:
            assert (mask.mode, mask.size) == ('P', (48, 48))
            assert mask.getpalette()[:6] == [0, 0, 0, 220, 60, 50]
        values = set(np.unique(read_mask(str(tiny / f'SegmentationClass/{name}.png'))).tolist())
        assert values <= {*range(9), 255} and {0, 255} < values
        with Image.open(tiny / f'SaliencyMap/{name}.png') as saliency:
            assert (saliency.mode, saliency.size) == ('L', (48, 48))
            assert set(np.unique(np.array(saliency)).tolist()) == {0, 255}


def test_same_seed_same_bytes(tiny, tmp_path):
    make_shapes(tmp_path / 'again', seed=3, **TINY)
    assert contents(tmp_path / 'again') == contents(tiny)


def test_every_image_depends_on_seed_split_and_number(tiny, tmp_path):
    make_shapes(tmp_path / 'other', seed=4, **TINY)
    images = [content for root in (tiny, tmp_path / 'other') for path, content in contents(root).items()
              if path.startswith('JPEG')]
    assert len(set(images)) == 2 * 6


def test_more_images_leave_the_first_as_they_are(tiny, tmp_path):
    make_shapes(tmp_path / 'more', seed=3, num_train=5, num_test=3, size=48)
    more, less = contents(tmp_path / 'more'), contents(tiny)
    assert all(more[path] == less[path] for path in less if path.startswith(('JPEG', 'Seg', 'Sal')))


def test_whole_data_set_is_left_as_it_is(tiny):
    (tiny / 'class_index_of_someone').touch()
    before = times(tiny)
    make_shapes(tiny, seed=3, **TINY)
    ShapesDataset(data_root=str(tiny), seed=3, **TINY)
    assert times(tiny) == before
    (tiny / 'class_index_of_someone').unlink()


@pytest.mark.parametrize('harm', ['lost', 'empty', 'torn marker', 'other version'])
def test_damaged_data_set_is_made_again(tiny, tmp_path, harm):
    root = tmp_path / 'shapes'
    make_shapes(root, seed=3, **TINY)
    (root / 'class_index_SegmentationClass_train.npz').write_bytes(b'stale')
    if harm == 'lost':
        (root / 'SaliencyMap/test_000001.png').unlink()
    elif harm == 'empty':
        (root / 'JPEGImages/train_000003.jpg').write_bytes(b'')
    elif harm == 'torn marker':
        (root / 'shapes.json').write_text('{"seed": 3,')
    else:
        (root / 'shapes.json').write_text(json.dumps(dict(version=0, seed=3, **TINY)))
    make_shapes(root, seed=3, **TINY)
    assert contents(root) == contents(tiny)
    assert list(tmp_path.iterdir()) == [root]


def test_a_data_set_of_other_arguments_is_left_as_it_is(tmp_path):
    root = tmp_path / 'shapes'
    make_shapes(root, seed=3, **TINY)
    before = contents(root)
    with pytest.raises(InputError, match=r'shapes with seed 3, not 8, and is left as it is; set data_root'):
        make_shapes(root, seed=8, **TINY)
    assert contents(root) == before


def test_folder_of_the_user_is_left_as_it_is(tmp_path):
    theirs = tmp_path / 'shapes/JPEGImages/holiday.jpg'
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b'precious')
    with pytest.raises(InputError, match="'JPEGImages', which is not of the data set"):
        make_shapes(tmp_path / 'shapes', **TINY)
    assert contents(tmp_path) == {'shapes/JPEGImages/holiday.jpg': b'precious'}


def test_file_of_the_user_in_our_folder_is_not_lost(tmp_path):
    make_shapes(tmp_path / 'shapes', **TINY)
    (tmp_path / 'shapes/notes.txt').write_text('precious')
    make_shapes(tmp_path / 'shapes', **TINY)
    (tmp_path / 'shapes/SaliencyMap/test_000000.png').unlink()
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"'notes\.txt'"):
        make_shapes(tmp_path / 'shapes', **TINY)
    assert contents(tmp_path) == before


def test_empty_folder_and_link_are_filled(tiny, tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'shapes').symlink_to('disk')
    make_shapes(tmp_path / 'shapes', seed=3, **TINY)
    assert (tmp_path / 'shapes').is_symlink()
    assert contents(tmp_path / 'disk') == contents(tiny)


def test_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / 'shapes').write_text('precious')
    with pytest.raises(InputError, match='is no folder'):
        make_shapes(tmp_path / 'shapes', **TINY)
    with pytest.raises(InputError, match=r'cannot be made in .*set data_root'):
        make_shapes(tmp_path / 'shapes/below', **TINY)
    assert (tmp_path / 'shapes').read_text() == 'precious'


def test_interruption_leaves_nothing(tmp_path, monkeypatch):
    make_shapes(tmp_path / 'shapes', seed=5, **TINY)
    (tmp_path / 'shapes/SaliencyMap/test_000000.png').unlink()
    before = contents(tmp_path)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shapes, 'write_json', interrupt)
    for root in (tmp_path / 'shapes', tmp_path / 'new'):
        with pytest.raises(KeyboardInterrupt):
            make_shapes(root, seed=5, **TINY)
    assert contents(tmp_path) == before


def test_another_process_that_was_faster_is_obeyed(tmp_path, monkeypatch):
    # What happens where the file system knows no locks: both draw, both rename.
    write = shapes._write

    def slow(new, parameters):
        write(new, parameters)
        if not (tmp_path / 'shapes').exists():
            write(tmp_path / 'shapes', parameters)

    monkeypatch.setattr(shapes, '_write', slow)
    make_shapes(tmp_path / 'shapes', **TINY)
    assert [path.name for path in tmp_path.iterdir()] == ['shapes']
    assert len(ShapesDataset(data_root=str(tmp_path / 'shapes'), **TINY)) == 4


def _share(start):
    _make_and_read.start = start


def _make_and_read(root):
    _make_and_read.start.wait()  # for the three others
    make_shapes(root, seed=3, **TINY)
    return os.stat(root).st_ino, contents(root)


def test_processes_at_the_same_time_share_one(tiny, tmp_path):
    root = tmp_path / 'shapes'
    context = multiprocessing.get_context('fork')
    make_shapes(root, seed=3, **TINY)
    (root / 'SaliencyMap/test_000000.png').unlink()
    with ProcessPoolExecutor(4, context, _share, (context.Barrier(4), )) as pool:
        read = list(pool.map(_make_and_read, [root] * 4))
    assert all(content == contents(tiny) for _, content in read)
    assert len({inode for inode, _ in read}) == 1, 'a process replaced what another had already handed over'
    assert list(tmp_path.iterdir()) == [tmp_path / 'shapes']


@pytest.mark.parametrize('arguments, key', [
    (dict(seed=-1), 'seed'), (dict(seed=0.5), 'seed'), (dict(num_train=0), 'num_train'),
    (dict(num_test='2'), 'num_test'), (dict(size=47), 'size'), (dict(size=True), 'size'), (dict(split='val'), 'split')])
def test_bad_arguments_are_refused(tmp_path, arguments, key):
    with pytest.raises(InputError, match=rf'ShapesDataset\.{key} is .*; (it must|choose)'):
        ShapesDataset(data_root=str(tmp_path / 'shapes'), **{**TINY, **arguments})
    assert not list(tmp_path.iterdir())


def test_dataset_makes_lists_and_loads(tmp_path):
    config = dict(type='ShapesDataset', data_root=str(tmp_path / 'data/shapes'), seed=3, **TINY)
    train = DATASETS.build(dict(config, split='train', pipeline=[LoadImageFromFile(), LoadAnnotations()]))
    test = DATASETS.build(dict(config, split='test', test_mode=True))
    assert (len(train), len(test)) == (4, 2)
    assert train.metainfo['classes'] == (
        'background', 'disc', 'square', 'triangle', 'star', 'ring', 'cross', 'ellipse', 'hexagon')
    assert len({tuple(colour) for colour in train.metainfo['palette']}) == 9
    assert train[0]['img'].shape == (48, 48, 3)
    mask = read_mask(str(tmp_path / 'data/shapes/SegmentationClass/train_000000.png'))
    np.testing.assert_array_equal(train[0]['gt_seg_map'], mask)
    assert test.get_data_info(1)['img_path'].endswith('JPEGImages/test_000001.jpg')
