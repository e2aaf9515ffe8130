"""COCO-style annotations as masks."""
import json
import sys

import numpy as np
import pytest
from PIL import Image

from ssul_mmseg.datasets.coco import find_coco, names_of, write_masks
from ssul_mmseg.datasets.folders import Part
from ssul_mmseg.errors import InputError

CATEGORIES = [dict(id=7, name='dog'), dict(id=3, name='cat')]


def box(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def write(root, split='train', annotations=(), categories=CATEGORIES, name='a.jpg',
          file='annotations/instances_{}2017.json'):
    path = root / file.format(split)
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [dict(id=i, image_id=1, area=0, **entry) for i, entry in enumerate(annotations)]
    path.write_text(json.dumps(dict(images=[dict(id=1, file_name=name, height=6, width=8)], categories=categories,
                                    annotations=entries)))
    image = root / f'images/{split}/{name}'
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 6)).save(image)


def test_objects_become_values_in_the_order_of_their_ids(tmp_path):
    write(tmp_path, annotations=[
        # A small dog lies on a large cat, whatever their order; a crowd lies below both.
        dict(category_id=7, segmentation=box(2, 2, 4, 4), bbox=[2, 2, 2, 2]),
        dict(category_id=3, segmentation=box(0, 0, 6, 5), bbox=[0, 0, 6, 5]),
        dict(category_id=7, segmentation=dict(size=[6, 8], counts=[36, 12]), iscrowd=1, bbox=[6, 0, 2, 6])])
    write(tmp_path, 'val', name='sub/b.jpg')
    found = find_coco(tmp_path)
    assert {split: file.images for split, file in found.items()} == {'train': 'images/train', 'test': 'images/val'}
    assert names_of(found) == [(3, 'cat'), (7, 'dog')]
    parts = write_masks(tmp_path, found)
    assert parts['test'] == Part('images/val', 'masks_coco/test', 'masks_coco/test.txt')
    expected = np.zeros((6, 8), np.uint8)
    expected[:5, :6], expected[2:4, 2:4], expected[:, 6:] = 1, 2, 255
    assert np.array_equal(np.array(Image.open(tmp_path / 'masks_coco/train/a.png')), expected)
    assert not np.array(Image.open(tmp_path / 'masks_coco/test/sub/b.png')).any()
    assert (tmp_path / 'masks_coco/test.txt').read_text() == 'sub/b\n'


def test_annotations_beside_the_images_are_found(tmp_path):
    for split in ('train', 'valid'):
        write(tmp_path, split, file='{}/_annotations.coco.json')
        (tmp_path / f'images/{split}/a.jpg').rename(tmp_path / f'{split}/a.jpg')
    assert {split: file.images for split, file in find_coco(tmp_path).items()} == {'train': 'train', 'test': 'valid'}
    assert find_coco(tmp_path / 'train/none') == {}


def refused(root, words):
    with pytest.raises(InputError, match=words):
        write_masks(root, find_coco(root))
    assert not list(root.glob('masks_coco')) and not list(root.glob('.masks*'))


def test_faults_are_sentences_and_nothing_is_left(tmp_path):
    write(tmp_path)
    refused(tmp_path, 'annotations of train, but there are none of test')
    write(tmp_path, 'val', categories=CATEGORIES[:1])
    refused(tmp_path, 'name different categories')
    write(tmp_path, 'val', [dict(category_id=9, segmentation=box(0, 0, 1, 1))])
    refused(tmp_path, 'annotation 0 of .* is of category 9, which the file does not name')
    write(tmp_path, 'val', [dict(category_id=3, segmentation=dict(size=[6, 8], counts=5))])
    refused(tmp_path, 'annotation 0 of .* cannot be drawn')
    write(tmp_path, 'val')
    (tmp_path / 'images/val/a.jpg').unlink()
    refused(tmp_path, 'names the image a.jpg, which is in none of the folders')
    for text in ('{', '[]', '{"images": []}', '{"images": [], "categories": [], "annotations": []}'):
        (tmp_path / 'annotations/instances_val2017.json').write_text(text)
        refused(tmp_path, 'instances_val2017.json (is no file of COCO annotations|names no image or no category)')


def test_a_missing_package_is_a_sentence(tmp_path, monkeypatch):
    write(tmp_path)
    write(tmp_path, 'val')
    monkeypatch.setitem(sys.modules, 'pycocotools.coco', None)
    with pytest.raises(InputError, match=r"needs pycocotools, .* pip install 'ssul_mmseg\[coco\]'"):
        find_coco(tmp_path)
