"""What the pictures of the embedded data set show."""
import cv2
import numpy as np
import pytest

from ssul_mmseg.datasets.shapes.drawing import SHAPES, draw


@pytest.fixture(scope='module')
def drawn():
    return [draw(np.random.default_rng((0, 0, i)), 96) for i in range(200)]


def test_classes_are_several_in_an_image_and_equally_frequent(drawn):
    images, pixels = np.zeros(256), np.zeros(256)
    for _, labels, _ in drawn:
        found = np.bincount(labels.ravel(), minlength=256)
        assert 2 <= np.count_nonzero(found[1:9] >= 9) <= 4
        images += found > 0
        pixels += found
    # Two to four of eight: 37.5 % of 200 images hold a class, give or take three standard deviations.
    assert np.all(abs(images[1:9] - 75) < 21)
    assert pixels[1:9].max() < 2 * pixels[1:9].min()
    assert 0.6 < pixels[0] / pixels.sum() < 0.85


def test_border_is_one_ignored_pixel_around_every_object(drawn):
    for _, labels, _ in drawn[:20]:
        for rows, columns in (((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
                              ((slice(1, None), slice(None)), (slice(None, -1), slice(None)))):
            one, other = labels[rows], labels[columns]
            assert np.all((one == other) | (one == 255) | (other == 255))
        ignored = labels == 255
        thick = ignored[:-2, :-2] & ignored[:-2, 2:] & ignored[2:, :-2] & ignored[2:, 2:] & ignored[1:-1, 1:-1]
        assert thick.mean() < 0.005


def test_saliency_is_that_of_an_imperfect_detector(drawn):
    objects = np.array([(labels > 0) & (labels < 255) for _, labels, _ in drawn])
    background = np.array([labels == 0 for _, labels, _ in drawn])
    found = np.array([salient > 0 for _, _, salient in drawn])
    assert 0.85 < found[objects].mean() < 0.98
    assert 0.0005 < found[background].mean() < 0.05
    missed = [not found[i][labels == value].any() for i, (_, labels, _) in enumerate(drawn)
              for value in set(labels.ravel().tolist()) - {0, 255}]
    assert 5 <= sum(missed) <= 40
    assert found.any(axis=(1, 2)).all()


def test_hue_tells_the_classes_apart_but_for_two(drawn):
    pixels = {value: [] for value in range(9)}
    for image, labels, _ in drawn:
        hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
        for value in pixels:
            pixels[value].append(hsv[labels == value])
    pixels = {value: np.concatenate(found) for value, found in pixels.items()}
    for value, shape in enumerate(SHAPES.values(), start=1):
        off = (pixels[value][:, 0] - shape.hue + 180) % 360 - 180
        assert abs(np.median(off)) < 5 and 4 < np.median(abs(off)) < 15
        assert np.median(pixels[value][:, 1]) > 2 * np.median(pixels[0][:, 1]), 'objects must stand out'
    hues = sorted(shape.hue for shape in SHAPES.values())
    gaps = sorted(np.diff([*hues, hues[0] + 360]))
    assert gaps[0] == 0 and gaps[1] >= 40
