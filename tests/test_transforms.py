import io

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from mask_files import png_bytes
from mmseg.registry import TRANSFORMS
from PIL import ExifTags, Image, ImageOps

from ssul_mmseg.datasets import transforms
from ssul_mmseg.datasets.transforms import (
    LabelAugmentation,
    LoadImage,
    LoadLabels,
    RandomScale,
    ScaleAndFlip,
    ShortSideCenterCrop,
)
from ssul_mmseg.errors import InputError
from ssul_mmseg.scenario import BACKGROUND, IGNORE, UNKNOWN

# Labels 1..2 are old, 3..4 of the task, 5 is of the future.
LABELS = np.array([[0, 1, 3, 5], [0, 255, 4, 2]], np.uint8)
SALIENT = np.array([[0, 1, 1, 1], [7, 1, 0, 0]], np.uint8)


def augment(saliency, labels=LABELS, salient=SALIENT, labelled=range(3, 5), folder=None):
    results = dict(gt_seg_map=labels.copy(), labelled=labelled)
    if folder is not None:
        Image.fromarray(salient).save(folder / 's.png')
        results['saliency_path'] = str(folder / 's.png')
    return LabelAugmentation(saliency).transform(results)['gt_seg_map']


def test_rows_of_equation_1_by_hand(tmp_path):
    u, i = UNKNOWN, IGNORE
    assert augment('map', folder=tmp_path).tolist() == [[0, u, 3, u], [u, i, 4, 0]]
    assert augment('ground_truth').tolist() == [[0, u, 3, u], [0, i, 4, u]]
    assert augment('all').tolist() == [[u, u, 3, u], [u, i, 4, u]]
    assert augment(None).tolist() == [[0, 0, 3, 0], [0, i, 4, 0]]


def test_an_exemplar_shows_all_seen_classes(tmp_path):
    found = augment('map', labelled=range(1, 5), folder=tmp_path)
    assert found.tolist() == [[0, 1, 3, UNKNOWN], [UNKNOWN, IGNORE, 4, 2]]


@settings(max_examples=300)
@given(arrays(np.uint8, (3, 4)), st.sampled_from(['ground_truth', 'all', None]), st.integers(1, 200),
       st.integers(0, 50))
def test_any_labels_end_as_background_labelled_unknown_or_ignored(labels, saliency, first, count):
    labelled = range(first, min(first + count, UNKNOWN))
    found = augment(saliency, labels, labelled=labelled)
    assert set(np.unique(found)) <= {BACKGROUND, UNKNOWN, IGNORE, *labelled}
    kept = np.isin(labels, [*labelled, IGNORE])
    assert (found[kept] == labels[kept]).all()


def test_wrong_saliency(tmp_path):
    with pytest.raises(InputError, match='ground_truth'):
        LabelAugmentation('maps')
    results = dict(gt_seg_map=LABELS.copy(), labelled=range(3, 5), saliency_path=str(tmp_path / 'none.png'))
    with pytest.raises(InputError, match=r'none\.png is missing; make all maps with ssul make-saliency'):
        LabelAugmentation('map').transform(results)
    with pytest.raises(InputError, match=r's\.png is 3 x 3 pixels, but its image is 4 x 2'):
        augment('map', salient=np.zeros((3, 3), np.uint8), folder=tmp_path)
    Image.new('RGB', (4, 2)).save(tmp_path / 'rgb.png')
    results['saliency_path'] = str(tmp_path / 'rgb.png')
    with pytest.raises(InputError, match='RGB'):
        LabelAugmentation('map').transform(results)


def load_labels(mask, folder, table=None, shape=None):
    Image.fromarray(mask).save(folder / 'm.png')
    table = np.arange(256, dtype=np.int16) if table is None else table
    results = dict(seg_map_path=str(folder / 'm.png'), label_table=table, seg_fields=[])
    if shape:
        results.update(img=np.zeros((*shape, 3), np.uint8), ori_shape=shape)
    return LoadLabels().transform(results)


def test_labels_are_mapped_and_checked(tmp_path):
    table = np.full(256, -1, np.int16)
    table[[0, 7, 9, 255]] = 0, 2, 1, 255
    mask = np.array([[0, 7], [9, 255]], np.uint8)
    results = load_labels(mask, tmp_path, table)
    assert results['gt_seg_map'].tolist() == [[0, 2], [1, 255]] and results['seg_fields'] == ['gt_seg_map']
    with pytest.raises(InputError, match=r'm\.png holds the value 8'):
        load_labels(np.array([[7, 8]], np.uint8), tmp_path, table)
    with pytest.raises(InputError, match=r'm\.png is 2 x 2 pixels, but its image is 5 x 4'):
        load_labels(mask, tmp_path, shape=(4, 5))


@settings(max_examples=100)
@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))), arrays(np.int16, 256, elements=st.integers(
    -1, 255)))
def test_any_mask_is_mapped_or_refused(tmp_path_factory, mask, table):
    folder = tmp_path_factory.mktemp('mask')
    try:
        found = load_labels(mask, folder, table)['gt_seg_map']
    except InputError:
        assert (table[mask] < 0).any()
    else:
        assert (found == table[mask]).all()


def jpeg(size=(12, 10)):
    stream = io.BytesIO()
    Image.fromarray(np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)).save(stream, 'JPEG')
    return stream.getvalue()


@settings(max_examples=150)
@given(st.integers(0, len(jpeg())), st.integers(0, 255), st.booleans())
def test_damaged_images_are_read_or_refused(tmp_path_factory, place, value, truncate):
    content = bytearray(jpeg())
    if truncate:
        content = content[:place]
    elif place < len(content):
        content[place] = value
    path = tmp_path_factory.mktemp('image') / 'i.jpg'
    path.write_bytes(content)
    try:
        image = LoadImage().transform(dict(img_path=str(path)))['img']
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert image.dtype == np.uint8 and image.ndim == 3


def test_missing_image_names_the_file():
    with pytest.raises(InputError, match=r'image /nowhere/i\.jpg is missing'):
        LoadImage().transform(dict(img_path='/nowhere/i.jpg'))


def test_an_image_of_more_than_8_bits_is_refused(tmp_path):
    (tmp_path / 'i.png').write_bytes(png_bytes([bytes(24)] * 2, 4, 16, 2))
    with pytest.raises(InputError, match=r'i\.png has more than 8 bits a channel \(RGB\).*convert it to 8 bits'):
        LoadImage().transform(dict(img_path=str(tmp_path / 'i.png')))


def test_an_image_beyond_the_limit_is_refused_as_too_large(tmp_path, monkeypatch):
    Image.new('RGB', (9, 9)).save(tmp_path / 'i.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 40)
    with pytest.raises(InputError, match=r'i\.png cannot be read .*81 pixels.*too large: make it smaller'):
        LoadImage().transform(dict(img_path=str(tmp_path / 'i.png')))


def photo(folder, orientation, mask=None, shape=(2, 3), form='JPEG'):
    """What the pipeline is given for a photograph that EXIF turns; its mask and saliency map hold the same pixels."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    Image.fromarray(np.repeat(pixels[..., None], 3, 2)).save(folder / 'i', form, exif=exif)
    for name in 'ms':
        Image.fromarray(pixels if mask is None else mask).save(folder / f'{name}.png')
    return dict(img_path=str(folder / 'i'), seg_map_path=str(folder / 'm.png'), saliency_path=str(folder / 's.png'),
                label_table=np.arange(256, dtype=np.int16), labelled=range(3, 4), seg_fields=[])


@pytest.mark.parametrize('form', ['PNG', 'TIFF'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_image_mask_and_saliency_map_are_turned_together(tmp_path, orientation, form):
    results = LoadLabels()(LoadImage()(photo(tmp_path, orientation, form=form)))
    assert (results['img'][..., 0] == results['gt_seg_map']).all()
    with Image.open(tmp_path / 'i') as image:
        shown = np.array(ImageOps.exif_transpose(image))
    assert (results['img'] == shown).all() and results['ori_shape'] == shown.shape[:2]
    # Salient are all values but 0.
    expected = np.where(shown[..., 0] == 3, 3, np.where(shown[..., 0] > 0, UNKNOWN, BACKGROUND))
    assert (LabelAugmentation('map')(results)['gt_seg_map'] == expected).all()


@pytest.mark.parametrize('orientation', [1, 6])
def test_a_mask_of_the_turned_photograph_is_refused_with_a_word_on_exif(tmp_path, orientation):
    results = LoadImage()(photo(tmp_path, orientation, np.zeros((3, 2), np.uint8)))
    with pytest.raises(InputError, match=r'm\.png is 2 x 3 pixels, but its image is 3 x 2; .* EXIF'):
        LoadLabels()(results)
    Image.new('L', (3, 2)).save(tmp_path / 'm.png')
    with pytest.raises(InputError, match=r'saliency map .*s\.png is 2 x 3 pixels, but its image is 3 x 2; .* EXIF'):
        LabelAugmentation('map')(LoadLabels()(results))


def test_turned_masks_are_reported_once(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(transforms, 'print_log', lambda message, **_: lines.append(message))
    transforms._warn_of_turned_masks.cache_clear()
    for orientation in (1, 3, 3, 6):
        LoadLabels()(LoadImage()(photo(tmp_path, orientation)))
    assert len(lines) == 1 and 'turned by EXIF' in lines[0]


def scene(shape=(20, 30)):
    labels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    return dict(img=np.zeros((*shape, 3), np.uint8), gt_seg_map=labels)


def test_random_scale_keeps_image_and_labels_together():
    more = scene()['gt_seg_map'][::-1]
    results = RandomScale((2.0, 2.0)).transform({**scene(), 'mask': more, 'seg_fields': ['gt_seg_map', 'mask']})
    assert results['img'].shape[:2] == results['gt_seg_map'].shape == results['img_shape'] == (40, 60)
    assert (results['mask'] == results['gt_seg_map'][::-1]).all()
    assert (results['gt_seg_map'][::2, ::2] == scene()['gt_seg_map']).all()


@pytest.mark.parametrize('scale', [None, 0, 'map', (1, ), (.5, 0), (.5, float('nan')), ('.5', '2')])
def test_a_scale_is_two_factors(scale):
    with pytest.raises(InputError, match=r'scale of RandomScale is .*; give the smallest and the largest factor'):
        RandomScale(scale)
    assert RandomScale(np.array([.5, 2.])).scale == (.5, 2.)


@pytest.mark.parametrize('shape', [(20, 30), (30, 20), (7, 7), (513, 700)])
def test_center_crop_is_square_and_centred(shape):
    results = ShortSideCenterCrop(14).transform(scene(shape))
    assert results['img'].shape[:2] == results['gt_seg_map'].shape == results['img_shape'] == (14, 14)
    results = ShortSideCenterCrop(20).transform(scene((20, 30)))
    assert (results['gt_seg_map'] == scene((20, 30))['gt_seg_map'][:, 5:25]).all()


@pytest.mark.parametrize('size', [513, 512, 24, 1])
def test_the_test_window_is_that_of_torchvision(monkeypatch, size):
    """Against the formulas of torchvision's Resize(size) and CenterCrop(size), which the authors' code uses."""
    class Resized:
        """Stands for a resized image: keeps its size and what is cropped out of it."""

        def __init__(self, size):
            self.size = size

        def __getitem__(self, window):
            return self.size, window
    monkeypatch.setattr(transforms.mmcv, 'imresize', lambda image, size, **_: Resized(size))
    for short in (1, 7, 96, 332, 333, 375):
        for long in range(short, short + 400):
            new = int(size * long / short)
            first = round((new - size) / 2.0)  # Python rounds half to even
            tall, wide = slice(first, first + size), slice(0, size)
            for shape, expected in (((long, short), ((size, new), (tall, wide))),
                                    ((short, long), ((new, size), (wide, tall)))):
                results = ShortSideCenterCrop(size).transform(dict(img=np.empty(shape), gt_seg_map=np.empty(shape)))
                assert results['img'] == results['gt_seg_map'] == expected


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (9, 1), (2, 2)])
@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_the_narrowest_images_can_be_scaled_cropped_flipped_and_packed(shape, direction):
    for factor in (.5, 1., 2.):
        results = RandomScale((factor, factor)).transform({**scene(shape), 'seg_fields': ['gt_seg_map']})
        for step in (dict(type='RandomCrop', crop_size=(5, 5)), dict(type='RandomFlip', prob=1., direction=direction),
                     dict(type='PackSegInputs')):
            results = TRANSFORMS.build(step)(results)
        assert results['inputs'].shape[1:] == results['data_samples'].gt_sem_seg.shape
        assert min(results['inputs'].shape[1:]) >= 2


@pytest.mark.parametrize('shape', [(4, 6), (1, 1), (1, 5), (5, 1)])
def test_a_view_scales_and_flips_the_image_and_leaves_the_labels(shape):
    plain = scene(shape)
    for scale, flip in ((1., False), (1., True), (.5, True), (2., False)):
        results = ScaleAndFlip(scale, flip).transform({
            **scene(shape), 'ori_shape': shape, 'img_path': 'x', 'seg_fields': ['gt_seg_map']})
        assert np.array_equal(results['gt_seg_map'], plain['gt_seg_map'])
        size = tuple(max(1, round(side * scale)) for side in shape)
        assert results['img'].shape[:2] == results['img_shape'] == size
        expected = transforms.mmcv.imresize(plain['img'], size[::-1])
        assert np.array_equal(results['img'], expected[:, ::-1] if flip else expected)
        packed = TRANSFORMS.build(dict(type='PackSegInputs'))(results)
        assert packed['inputs'].shape[1:] == size and packed['data_samples'].gt_sem_seg.shape == shape
        assert packed['data_samples'].flip == flip
        assert packed['data_samples'].flip_direction == ('horizontal' if flip else None)
