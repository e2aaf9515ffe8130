"""What Pillow says of a file before it decodes it, and what of it would be lost in silence."""
import io

import numpy as np
import pytest
from mask_files import png_bytes, tiff_bytes
from PIL import ExifTags, Image, ImageOps

from ssul_mmseg.datasets.image_files import as_shown, as_stored, exif_orientation, is_deep

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def encoded(form, pixels=PIXELS, orientation=None, **options):
    stream = io.BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(stream, form, exif=exif, **options)
    return stream.getvalue()


def of(content, question):
    with Image.open(io.BytesIO(content)) as image:
        return question(image, content)


@pytest.mark.parametrize('content', [
    *(png_bytes([bytes(3 * channels * 2)] * 2, 3, 16, colour) for colour, channels in ((0, 1), (2, 3), (4, 2), (6, 4))),
    tiff_bytes([bytes(18)] * 2, 3, 16, 2, 3), tiff_bytes([bytes(6)] * 2, 3, 16),
    b'P6 3 2 65535\n' + bytes(36), b'P6 3 2 1023\n' + bytes(36), b'P3 1 1 1023\n0 0 0\n',
    encoded('JPEG2000', np.zeros((2, 3), np.uint16)),
    encoded('TIFF', np.zeros((2, 3), np.float32)),
], ids=['PNG grey', 'PNG RGB', 'PNG LA', 'PNG RGBA', 'TIFF RGB', 'TIFF grey', 'PPM', 'PPM of 10 bits', 'PPM as text',
        'JPEG 2000', 'TIFF float'])
def test_more_than_8_bits_a_channel_are_noticed(content):
    assert of(content, is_deep)


@pytest.mark.parametrize('content', [
    *(encoded(form) for form in ('PNG', 'JPEG', 'TIFF', 'BMP', 'WEBP', 'PPM', 'GIF', 'JPEG2000', 'TGA')),
    *(png_bytes([bytes(2)] * 2, 3, bits) for bits in (1, 2, 4)), b'P6 3 2 15\n' + bytes(18)])
def test_up_to_8_bits_are_not(content):
    assert not of(content, is_deep)


def test_the_depth_of_a_jpeg_2000_stands_where_it_is_looked_for():
    """Pillow writes no colour of more than 8 bits: the header of one is changed to 12."""
    content = bytearray(encoded('JPEG2000'))
    place = content.index(b'\xff\x4f\xff\x51') + 42
    assert content[place:place + 9] == bytes([7, 1, 1] * 3)  # depth less 1 and steps of three channels
    content[place:place + 9] = bytes([11, 1, 1] * 3)
    assert of(bytes(content), is_deep)


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'TIFF', 'WEBP'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_the_orientation_is_found_before_an_image_is_decoded(form, orientation):
    assert of(encoded(form, orientation=orientation), exif_orientation) == orientation


def test_no_or_a_senseless_orientation_turns_nothing():
    for content in (encoded('PNG'), encoded('JPEG'), encoded('JPEG', orientation=0), encoded('JPEG', orientation=9)):
        assert of(content, exif_orientation) == 1


def test_a_png_is_not_decoded_for_its_orientation():
    content = encoded('PNG', np.zeros((50, 50, 3), np.uint8))
    with Image.open(io.BytesIO(content)) as image:
        assert exif_orientation(image, content) == 1 and image.tile  # what is decoded has no tiles left


@pytest.mark.parametrize('orientation', range(1, 9))
def test_pixels_are_turned_as_pillow_turns_the_image_and_back(orientation):
    with Image.open(io.BytesIO(encoded('PNG', orientation=orientation))) as image:
        shown = np.array(ImageOps.exif_transpose(image))
    assert np.array_equal(as_shown(PIXELS, orientation), shown)
    assert np.array_equal(as_shown(PIXELS[..., 1], orientation), shown[..., 1])
    assert np.array_equal(as_stored(shown, orientation), PIXELS)
