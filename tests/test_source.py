import pytest
from tiny import ROOT

from ssul_mmseg.datasets.source import NO_CLASS, label_table
from ssul_mmseg.errors import InputError
from ssul_mmseg.scenario import IGNORE, Scenario

VOC = dict(type='PascalVOCDataset', ann_file='ImageSets/Segmentation/train_aug.txt',
           data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'))
VOC_ROOT = ROOT / 'data/VOCdevkit/VOC2012'
PIPELINE = [dict(type='LoadImage'), dict(type='LoadLabels'), dict(type='LabelAugmentation')]


class Source:
    """What ``label_table`` asks of a data set."""

    def __init__(self, classes, reduce_zero_label=False, label_map=None):
        self.metainfo, self.reduce_zero_label, self.label_map = dict(classes=classes), reduce_zero_label, label_map


def test_label_table_of_data_sets_with_and_without_background():
    voc = label_table(Source(('background', 'a', 'b')), Scenario('1-1', 2, [2, 1]))
    assert voc[[0, 1, 2, 3, 255]].tolist() == [0, 2, 1, NO_CLASS, IGNORE]
    camvid = label_table(Source(('a', 'b')), Scenario('1-1', 2))
    assert camvid[[0, 1, 2, 255]].tolist() == [1, 2, NO_CLASS, IGNORE]
    ade = label_table(Source(('a', 'b'), reduce_zero_label=True), Scenario('1-1', 2))
    assert ade[[0, 1, 2, 3, 255]].tolist() == [0, 1, 2, NO_CLASS, IGNORE]
    things = label_table(Source(('background', 'a'), label_map={0: 0, 1: 0, 2: 1, 3: 255}), Scenario('1-1', 1))
    assert things[[0, 1, 2, 3]].tolist() == [0, 0, 1, IGNORE]


def test_too_many_classes_for_8_bits():
    with pytest.raises(InputError, match='at most 253'):
        label_table(Source(tuple(map(str, range(300)))), Scenario('100-50', 300))
