"""Reading a whole data set in one process and in several."""
from tiny import voc_tree

from ssul_mmseg.datasets import inspection
from ssul_mmseg.datasets.inspection import inspect, label_index
from ssul_mmseg.datasets.source import build_source, label_table
from ssul_mmseg.scenario import Scenario


def test_several_processes_find_what_one_finds(tmp_path, monkeypatch):
    root = voc_tree(tmp_path / 'voc')
    source = build_source(dict(type='PascalVOCDataset', data_root=str(root), ann_file='ImageSets/Segmentation/val.txt',
                               data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug')), False)
    (root / 'JPEGImages/2007_000003.jpg').unlink()
    table = label_table(source, Scenario('15-1', 20))
    one = inspect(source, table, 'map', 'SaliencyMap', workers=1)
    monkeypatch.setattr(inspection, 'FEW_MASKS', 1)
    monkeypatch.setattr(inspection, 'CHUNK', 7)
    assert inspect(source, table, 'map', 'SaliencyMap', workers=2) == one and len(one) == 40
    assert [len(facts.image_faults) for facts in one[:5]] == [0, 0, 0, 1, 0]
    first = one[0]
    assert first.size == (24, 32) and sum(pixels for pixels, _ in first.pixels.values()) == 24 * 32
    # All pixels of the two classes are salient, those of the background and the ignored line are not.
    assert {label: pixels == salient for label, (pixels, salient) in first.pixels.items()} == {
        0: False, 1: True, 2: True, 255: False} and first.pixels[0][1] == first.pixels[255][1] == 0
    assert label_index(one).values(0) == [0, 1, 2, 255] and len(label_index([])) == 0
