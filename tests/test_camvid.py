"""CamVid as it is, and its objects on a background."""
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from tiny import ROOT

from ssul_mmseg.datasets.camvid import CLASSES, THINGS
from ssul_mmseg.datasets.source import NO_CLASS, build_source, label_table
from ssul_mmseg.datasets.task_dataset import TaskDataset
from ssul_mmseg.scenario import IGNORE, Scenario

FOLDERS = dict(data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
               ann_file='ImageSets/Segmentation/train.txt')
CAMVID = ROOT / 'data/camvid'
real = pytest.mark.skipif(not CAMVID.exists(), reason='CamVid is not in data/camvid')


@pytest.fixture
def root(tmp_path):
    """One photograph whose mask holds every class and an ignored pixel."""
    for folder in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'):
        (tmp_path / folder).mkdir(parents=True)
    Image.new('RGB', (4, 3)).save(tmp_path / 'JPEGImages/a.jpg')
    mask = np.array([*range(11), 255], np.uint8).reshape(3, 4)
    Image.fromarray(mask).save(tmp_path / 'SegmentationClass/a.png')
    (tmp_path / 'ImageSets/Segmentation/train.txt').write_text('a\n')
    return tmp_path


def dataset(root, kind, name, num_classes, cache, **scenario):
    return TaskDataset(
        dict(type=kind, data_root=str(root), **FOLDERS), [dict(type='LoadImage'), dict(type='LoadLabels')],
        dict(name=name, num_classes=num_classes, **scenario), 0, index_cache=str(cache))


def labels(root, *arguments):
    built = dataset(root, *arguments, root)
    return built.metainfo['classes'], built[0]['gt_seg_map'].flatten().tolist()


def test_every_class_is_a_label_of_its_own(root):
    names, found = labels(root, 'CamVidDataset', '6-1', 11)
    assert names == ('background', *CLASSES) and found == [*range(1, 12), IGNORE]


def test_stuff_is_background(root):
    names, found = labels(root, 'CamVidThingsDataset', '3-1', 6)
    assert names == ('background', *THINGS)
    # sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist, ignored
    assert found == [0, 0, 1, 0, 0, 0, 2, 3, 4, 5, 6, IGNORE]


@pytest.mark.parametrize('arguments, background', [(('CamVidDataset', '6-1', 11), False),
                                                   (('CamVidThingsDataset', '3-1', 6), True)])
def test_only_with_stuff_as_background_a_pixel_can_be_background(root, arguments, background):
    assert dataset(root, *arguments, root).metainfo['background'] is background


@pytest.mark.parametrize('arguments', [('CamVidDataset', '6-1', 11), ('CamVidThingsDataset', '3-1', 6)])
def test_colours_go_with_their_names(root, arguments):
    metainfo = dataset(root, *arguments, root).metainfo
    colours = dict(zip(metainfo['classes'], metainfo['palette'], strict=True))
    assert colours['background'] == [0, 0, 0] and colours['pole'] == [192, 192, 128]
    assert colours['car'] == [64, 0, 128] and colours['bicyclist'] == [0, 128, 192]


def test_values_beyond_the_classes_are_none(root):
    source = build_source(dict(type='CamVidDataset', data_root=str(root), **FOLDERS), test_mode=False)
    table = label_table(source, Scenario('6-1', 11))
    assert set(table[11:255]) == {NO_CLASS} and table[255] == IGNORE


@real
def test_the_photographs_are_those_of_the_tutorial():
    lists = CAMVID / 'ImageSets/Segmentation'
    assert [len((lists / f'{split}.txt').read_text().split()) for split in ('train', 'val', 'test')] == [367, 101, 233]


@real
@pytest.mark.parametrize('kind, names', [('CamVidDataset', CLASSES), ('CamVidThingsDataset', THINGS)])
def test_every_class_is_found_in_the_photographs_that_are_listed_for_it(tmp_path, kind, names):
    built = dataset(CAMVID, kind, f'{len(names)}-1', len(names), tmp_path)
    found = {built.metainfo['classes'][label]: len(images) for label, images in built.images_by_class().items()}
    # Each line: an image and the mask values in it.
    lines = (CAMVID / 'ImageSets/Segmentation/train_cls.txt').read_text().splitlines()
    listed = Counter(CLASSES[int(value)] for line in lines for value in line.split()[1:])
    assert found == {name: listed[name] for name in names} and found['bicyclist'] < found['car']
