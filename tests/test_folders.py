"""Where folders keep images and masks."""
import pytest

from ssul_mmseg.datasets.folders import Part, divided, find_parts
from ssul_mmseg.errors import InputError


def make(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b'x')


@pytest.mark.parametrize(('files', 'parts'), [
    (['train/images/a.jpg', 'train/masks/a.png', 'test/images/b.jpg', 'test/masks/b.png'],
     {'train': Part('train/images', 'train/masks'), 'test': Part('test/images', 'test/masks')}),
    (['img_dir/train/a.jpg', 'ann_dir/train/a.png', 'img_dir/val/b.JPG', 'ann_dir/val/b.png'],
     {'train': Part('img_dir/train', 'ann_dir/train'), 'test': Part('img_dir/val', 'ann_dir/val')}),
    (['images/training/x/a.jpg', 'annotations/training/x/a.png', 'images/validation/b.jpg',
      'annotations/validation/b.png'],
     {'train': Part('images/training', 'annotations/training'),
      'test': Part('images/validation', 'annotations/validation')}),
    (['JPEGImages/a.jpg', 'SegmentationClass/a.png', 'ImageSets/Segmentation/train.txt',
      'ImageSets/Segmentation/val.txt'],
     {'train': Part('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation/train.txt'),
      'test': Part('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation/val.txt')}),
    (['images/a.jpg', 'masks/a.png', 'train.txt', 'test.txt'],
     {'train': Part('images', 'masks', 'train.txt'), 'test': Part('images', 'masks', 'test.txt')}),
    (['images/a.jpg', 'masks/a.png', 'train.txt'], {'all': Part('images', 'masks')}),
])
def test_the_usual_layouts_are_found(tmp_path, files, parts):
    make(tmp_path, *files)
    assert find_parts(tmp_path) == parts


@pytest.mark.parametrize(('files', 'words'), [
    (['a.jpg'], 'holds no images with masks; put them into'),
    (['train/images/a.jpg', 'train/masks/.hidden.png'], 'holds no images with masks'),
    (['train/images/a.jpg', 'train/masks/a.png'], 'holds no test images beside train/images; move some'),
    (['test/images/a.jpg', 'test/masks/a.png'], 'holds no training images .* folder of the name train'),
])
def test_what_is_missing_is_said(tmp_path, files, words):
    make(tmp_path, *files)
    with pytest.raises(InputError, match=words):
        find_parts(tmp_path)


def test_every_fifth_image_is_for_the_test():
    assert divided(['c', 'a', 'b']) == {'train': ['a', 'b'], 'test': ['c']}
    found = divided([f'{i:02d}' for i in range(12)])
    assert found['test'] == ['04', '09'] and len(found['train']) == 10
    with pytest.raises(InputError, match='only one image'):
        divided(['a'])
