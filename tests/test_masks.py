import io
import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_files import png_bytes, tiff_bytes
from PIL import ExifTags, Image

from ssul_mmseg.datasets.masks import read_mask
from ssul_mmseg.errors import InputError

VALUES = np.array([[0, 1, 2], [254, 255, 7]], dtype=np.uint8)


def indexed(values):
    """An indexed image whose colours (grey, 255 - index) differ from its indices."""
    image = Image.frombytes('P', values.shape[::-1], values.tobytes())
    image.putpalette([255 - i // 3 for i in range(768)])
    return image


def png(image, **options):
    file = io.BytesIO()
    image.save(file, 'PNG', **options)
    return file.getvalue()


def textured_png():
    values = np.random.default_rng(0).integers(0, 21, (24, 31), dtype=np.uint8)
    return values, png(indexed(values), transparency=255)


TEXTURED, CONTENT = textured_png()


def refused(path, *parts):
    with pytest.raises(InputError) as caught:
        read_mask(str(path))
    for part in (str(path), *parts):
        assert part in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('options', [{}, {'optimize': True}, {'transparency': 0}])
def test_indexed_png_gives_indices_not_colours(tmp_path, options):
    indexed(VALUES).save(tmp_path / 'mask.png', **options)
    mask = read_mask(str(tmp_path / 'mask.png'))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, VALUES)


@pytest.mark.parametrize('bits', [1, 2, 4])
def test_indices_of_few_bits_are_not_scaled(tmp_path, bits):
    values = np.arange(2**bits, dtype=np.uint8).reshape(2, -1)
    indexed(values).save(tmp_path / 'mask.png', bits=bits)
    np.testing.assert_array_equal(read_mask(str(tmp_path / 'mask.png')), values)


@pytest.mark.parametrize('name', ['mask.png', 'mask.bmp', 'mask.tif'])
def test_grey_mask(tmp_path, name):
    Image.fromarray(VALUES).save(tmp_path / name)
    np.testing.assert_array_equal(read_mask(str(tmp_path / name)), VALUES)


def test_one_bit_mask(tmp_path):
    Image.fromarray(np.array([[True, False, True]])).save(tmp_path / 'mask.png')
    mask = read_mask(str(tmp_path / 'mask.png'))
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[1, 0, 1]]


@pytest.mark.parametrize(('bits', 'row', 'values'), [
    (1, b'\x50', [0, 1, 0, 1]), (2, b'\x1b', [0, 1, 2, 3]), (4, b'\x01\x2f', [0, 1, 2, 15]),
    (8, b'\x00\x01\x02\xff', [0, 1, 2, 255])])
@pytest.mark.parametrize('file', [png_bytes, tiff_bytes])
def test_grey_levels_of_few_bits_are_not_scaled(tmp_path, file, bits, row, values):
    """Pillow gives 17 for the 1 of a 4-bit image, whose largest value it takes for white."""
    (tmp_path / 'mask').write_bytes(file([row, row], 4, bits))
    assert read_mask(str(tmp_path / 'mask')).tolist() == [values, values]


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_negatives_are_refused(tmp_path, bits):
    """TIFF files whose 0 is white: Pillow turns the values round."""
    (tmp_path / 'mask.tif').write_bytes(tiff_bytes([bytes(4)] * 2, 4, bits, photometric=0))
    refused(tmp_path / 'mask.tif', 'does not give as they are')


def bmp_bytes(bits, colours, row):
    """A BMP file with two equal rows of four pixels and a palette of greys."""
    palette = b''.join(bytes([grey, grey, grey, 0]) for grey in colours)
    size = len(palette) + 54
    header = struct.pack('<2sIHHI', b'BM', size + 2 * len(row), 0, 0, size)
    return header + struct.pack('<IiiHHIIiiII', 40, 4, 2, 1, bits, 0, 2 * len(row), 0, 0, len(colours), 0) \
        + palette + 2 * row


@pytest.mark.parametrize(('bits', 'colours', 'row'), [(4, range(16), b'\x01\x23\0\0'), (8, (0, 255), b'\0\1\1\0')])
def test_bmp_that_pillow_misreads_is_refused(tmp_path, bits, colours, row):
    (tmp_path / 'mask.bmp').write_bytes(bmp_bytes(bits, colours, row))
    assert np.asarray(Image.open(tmp_path / 'mask.bmp')).tolist()[0] != [0, 1, 2, 3]
    refused(tmp_path / 'mask.bmp', 'does not give as they are')


@pytest.mark.parametrize(('form', 'options', 'part'), [
    ('JPEG', {}, 'is JPEG;'), ('JPEG', {'quality': 100}, 'is JPEG;'), ('WEBP', {}, 'is WEBP;'),
    ('WEBP', {'lossless': True}, 'is WEBP;'), ('JPEG2000', {}, 'is JPEG2000;'),
    ('TIFF', {'compression': 'jpeg'}, 'is TIFF (jpeg);'), ('PPM', {}, 'is PPM;')])
@pytest.mark.parametrize('what', ['mask', 'saliency map'])
def test_formats_that_change_values_are_refused(tmp_path, form, options, part, what):
    Image.fromarray(TEXTURED).save(tmp_path / 'mask.png', form, **options)  # whatever the name says
    with pytest.raises(InputError, match=f'{what} .*mask.png {re.escape(part)} .* from their source'):
        read_mask(str(tmp_path / 'mask.png'), what)


@pytest.mark.parametrize('compression', ['raw', 'tiff_lzw', 'tiff_adobe_deflate', 'packbits'])
def test_lossless_tiff_is_read(tmp_path, compression):
    indexed(TEXTURED).save(tmp_path / 'mask.tif', compression=compression)
    np.testing.assert_array_equal(read_mask(str(tmp_path / 'mask.tif')), TEXTURED)


def test_a_mask_with_an_exif_orientation_is_refused(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for name in ('mask.png', 'mask.tif'):
        Image.fromarray(VALUES).save(tmp_path / name, exif=exif)
        refused(tmp_path / name, 'EXIF')


@pytest.mark.parametrize(('mode', 'part'), [('RGB', '3 channels'), ('RGBA', '4 channels'), ('LA', '2 channels')])
def test_several_channels_are_refused(tmp_path, mode, part):
    Image.new(mode, (4, 3)).save(tmp_path / 'mask.png')
    refused(tmp_path / 'mask.png', f'is {mode}; a mask has one channel', part)


@pytest.mark.parametrize(('mode', 'name'), [('I;16', 'mask.png'), ('I', 'mask.tif'), ('F', 'mask.tif')])
def test_more_than_8_bits_are_refused(tmp_path, mode, name):
    Image.new(mode, (4, 3)).save(tmp_path / name)
    refused(tmp_path / name, f'is {mode}; a mask has one channel of 8 bits')


def test_missing_empty_and_foreign_files_are_refused(tmp_path):
    refused(tmp_path / 'missing.png', 'is missing')
    (tmp_path / 'empty.png').touch()
    refused(tmp_path / 'empty.png', 'empty file')
    (tmp_path / 'text.png').write_text('no image')
    refused(tmp_path / 'text.png', 'no image that Pillow reads')
    refused(tmp_path, 'cannot be read')


def test_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.fromarray(VALUES).save(tmp_path / 'mask.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 2)
    refused(tmp_path / 'mask.png', 'cannot be read', 'bomb')


def test_changed_pixel_data_are_noticed(tmp_path):
    """Pillow alone decodes this file without a word: only the checksum of its pixel data is wrong."""
    changed = TEXTURED.copy()
    changed[3, 5] += 1
    content, other = (bytearray(png(indexed(values), compress_level=0)) for values in (changed, TEXTURED))
    checksum = slice(content.rindex(b'IEND') - 8, content.rindex(b'IEND') - 4)
    assert content[checksum] != other[checksum]
    content[checksum] = other[checksum]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), changed)
    (tmp_path / 'mask.png').write_bytes(content)
    refused(tmp_path / 'mask.png', 'cannot be read')


@settings(max_examples=300)
@given(length=st.integers(0, len(CONTENT)),
       flips=st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(1, 255)), max_size=4))
def test_damaged_png_is_refused_or_right(tmp_path_factory, length, flips):
    content = bytearray(CONTENT)
    for place, change in flips:
        content[place] ^= change
    path = tmp_path_factory.getbasetemp() / 'damaged.png'
    path.write_bytes(content[:length])
    try:
        mask = read_mask(str(path))
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, TEXTURED)


@settings(max_examples=150)
@given(suffix=st.sampled_from(['bmp', 'tif', 'gif', 'jpg']), data=st.data())
def test_other_damaged_files_are_refused_or_masks(tmp_path_factory, suffix, data):
    path = tmp_path_factory.getbasetemp() / f'damaged.{suffix}'
    Image.fromarray(TEXTURED).save(path)
    content = bytearray(path.read_bytes())
    for place, change in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(1, 255)))):
        content[place] ^= change
    path.write_bytes(content[:data.draw(st.integers(0, len(content)))])
    try:
        mask = read_mask(str(path))
    except InputError:
        return
    assert mask.dtype == np.uint8
    assert mask.ndim == 2
