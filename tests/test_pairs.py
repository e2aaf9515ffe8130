"""Images and masks that pair, and what is left over."""
import os

import pytest
from mmengine.logging import MMLogger
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from PIL import Image

from ssul_mmseg.datasets import pairs
from ssul_mmseg.datasets.source import build_source
from ssul_mmseg.errors import InputError

FOLDERS = dict(img_path='images', seg_map_path='masks')
CLASSES = dict(classes=('background', 'a'))


def put(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if path.lower().endswith(('.jpg', '.jpeg', '.png', '.tif', '.webp')):
            Image.new('L', (4, 3)).save(root / path)
        else:
            (root / path).write_text('')


def built(root, kind='BaseSegDataset', folders=FOLDERS, **options):
    return build_source(dict(type=kind, data_root=str(root), metainfo=CLASSES, data_prefix=folders, **options), False)


def found(*arguments, **options):
    """Paths of the images and masks below the data root."""
    source = built(*arguments, **options)
    infos = [source.get_data_info(i) for i in range(len(source))]
    return [tuple(os.path.relpath(info[key], source.data_root) for key in ('img_path', 'seg_map_path'))
            for info in infos]


def refused(root, *words, **options):
    with pytest.raises(InputError) as caught:
        built(root, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_usual_suffixes_are_taken_in_any_case_and_counted(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(pairs, 'print_log', lambda message, **_: lines.append(message))
    put(tmp_path, 'images/a.jpg', 'images/b.JPG', 'images/c.jpeg', 'images/d.Png', 'images/sub/e.tif', 'images/f.webp',
        'images/.g.jpg', 'images/notes.txt', 'masks/a.png', 'masks/b.PNG', 'masks/c.tif', 'masks/d.png',
        'masks/sub/e.png', 'masks/f.png', 'masks/classes.json')
    assert found(tmp_path) == [
        ('images/a.jpg', 'masks/a.png'), ('images/b.JPG', 'masks/b.PNG'), ('images/c.jpeg', 'masks/c.tif'),
        ('images/d.Png', 'masks/d.png'), ('images/f.webp', 'masks/f.png'), ('images/sub/e.tif', 'masks/sub/e.png')]
    assert lines == [f'{tmp_path}/images: 6 images, each with its mask in {tmp_path}/masks']


def test_a_folder_of_one_suffix_is_listed_as_mmseg_does(tmp_path):
    put(tmp_path, *(f'images/{name}.jpg' for name in 'cab'), *(f'masks/{name}.png' for name in 'abc'), 'images/d/a.jpg',
        'masks/d/a.png')
    theirs = DATASETS.build(dict(type='BaseSegDataset', data_root=str(tmp_path), metainfo=CLASSES, data_prefix=FOLDERS))
    ours = built(tmp_path)
    assert [ours.get_data_info(i) for i in range(4)] == [theirs.get_data_info(i) for i in range(4)]


@pytest.mark.parametrize(('images', 'masks', 'words'), [
    ('ab', 'a', ['1 of 2 images', 'images/b.jpg', 'masks/b.png', 'ann_file']),
    ('a', 'abc', ['2 of 3 masks', 'masks/b.png', 'images/b.jpg']),
    ('ab', '', ['2 of 2 images'])])
def test_what_is_left_over_is_refused(tmp_path, images, masks, words):
    put(tmp_path, *(f'images/{name}.jpg' for name in images), *(f'masks/{name}.png' for name in masks), 'masks/x.json')
    refused(tmp_path, *words)


def test_two_files_of_one_name_are_refused(tmp_path):
    put(tmp_path, 'images/a.jpg', 'images/a.png', 'masks/a.png')
    refused(tmp_path, 'images/a.jpg', 'images/a.png', 'one name')
    put(tmp_path, 'images/b.jpg', 'masks/b.png', 'masks/b.tif')
    (tmp_path / 'images/a.png').unlink()
    refused(tmp_path, 'masks/b.png', 'masks/b.tif')


def test_longer_suffixes_pick_their_files(tmp_path):
    """As those of Cityscapes, whose folders hold several files of an image."""
    put(tmp_path, 'images/x/a_left.png', 'images/x/a_right.png', 'masks/x/a_ids.png', 'masks/x/a_color.png')
    assert found(tmp_path, img_suffix='_left.png', seg_map_suffix='_ids.png') == [
        ('images/x/a_left.png', 'masks/x/a_ids.png')]


@pytest.mark.parametrize(('images', 'masks', 'suffixes'), [
    ('', '', {}), ('', 'masks', {}), ('images', '', dict(img_suffix='.png')),
    ('', '', dict(img_suffix='.png', seg_map_suffix='_mask.png'))])
def test_images_and_masks_may_share_folders(tmp_path, images, masks, suffixes):
    image, mask = (os.path.join(folder, 'a' + suffixes.get(key, usual)) for folder, key, usual in (
        (images, 'img_suffix', '.jpg'), (masks, 'seg_map_suffix', '.png')))
    put(tmp_path, image, mask)
    assert found(tmp_path, folders=dict(img_path=images, seg_map_path=masks), **suffixes) == [(image, mask)]


def test_a_list_names_files_of_any_usual_suffix_with_or_without_it(tmp_path):
    put(tmp_path, 'images/a.jpg', 'images/b.JPG', 'images/c.png', 'images/d.jpg', 'images/left.jpg', 'masks/a.png',
        'masks/b.PNG', 'masks/c.png', 'masks/d.png')
    (tmp_path / 'list.txt').write_text('c\nb\n\na\nd.jpg\n\n')
    assert found(tmp_path, ann_file='list.txt') == [
        ('images/c.png', 'masks/c.png'), ('images/b.JPG', 'masks/b.PNG'), ('images/a.jpg', 'masks/a.png'),
        ('images/d.jpg', 'masks/d.png')]


def test_a_list_takes_no_mask_for_an_image(tmp_path):
    put(tmp_path, 'a.png')
    (tmp_path / 'list.txt').write_text('a\n')
    folders = dict(img_path='', seg_map_path='')
    assert found(tmp_path, ann_file='list.txt', folders=folders) == [('a.jpg', 'a.png')]  # missed where it is needed


def test_a_list_does_not_choose_between_files(tmp_path):
    put(tmp_path, 'images/a.png', 'images/a.JPG', 'masks/a.png')
    (tmp_path / 'list.txt').write_text('a\n')
    refused(tmp_path, 'a.JPG', 'a.png', ann_file='list.txt')


def test_names_that_are_no_text_are_refused(tmp_path):
    put(tmp_path, 'images/a.jpg', 'masks/a.png')
    os.rename(tmp_path / 'images/a.jpg', os.fsencode(tmp_path) + b'/images/\xff.jpg')
    refused(tmp_path, r'\xff.jpg', 'UTF-8')


def test_a_data_set_without_masks_is_refused(tmp_path):
    put(tmp_path, 'images/a.jpg')
    refused(tmp_path, 'data_prefix.seg_map_path', folders=dict(img_path='images'))


def test_a_data_set_with_a_listing_of_its_own_keeps_it(tmp_path):
    @DATASETS.register_module(force=True)
    class OwnListing(BaseSegDataset):
        def load_data_list(self):
            return [dict(img_path='x', seg_map_path='y', seg_fields=[])]
    source = built(tmp_path, 'OwnListing')
    assert len(source) == 1 and source.get_data_info(0)['img_path'] == 'x'


def test_the_count_is_logged(tmp_path, capsys):
    MMLogger.get_instance('pairs')
    put(tmp_path, 'images/a.jpg', 'masks/a.png')
    built(tmp_path)
    assert 'images: 1 images, each with its mask' in ''.join(capsys.readouterr())
