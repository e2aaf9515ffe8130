"""Entropy and its median, in the paper's form and in that of PLOP's code, against hand-computed values."""
import math

import pytest
import torch

from ssul_mmseg.models.entropy import histogram_median, uncertainty


@pytest.mark.parametrize('probabilities, code, true', [
    ([.9, .1], .234498, .468996), ([.7, .2, .1], .243282, .729847), ([1 / 16] * 16, .0625, 1.)])
def test_entropy(probabilities, code, true):
    p = torch.tensor(probabilities).view(1, -1, 1, 1)
    assert uncertainty(p, 'normalised', 17).item() == pytest.approx(true, abs=1e-6)
    assert uncertainty(p, 'code', 17).item() * math.log(17) == pytest.approx(code, abs=1e-6)


def test_the_code_divides_by_the_number_of_classes_once_more():
    assert uncertainty(torch.full((1, 16, 1, 1), 1 / 16), 'code', 17).item() == pytest.approx(.022060, abs=1e-6)


@pytest.mark.parametrize('bins, counts, code, exact', [
    (10, [10], .05, .05), (10, [2, 6, 2], .183333, .15), (10, [4, 0, 0, 6], .333333, .316667),
    (10, [1, 1, 0, 0, 0, 0, 0, 0, 0, 8], .4, .9375), (100, [90, 8, 2], .005556, .005556),
    (100, [49, 51], .019804, .010196), (100, [40, 40, 20], -math.inf, .0125),
    (100, [4000, 4000, 2000], math.inf, .0125), (10, [], 0, 0)])
def test_median(bins, counts, code, exact):
    histogram = torch.tensor(counts + [0] * (bins - len(counts)), dtype=torch.long)
    assert histogram_median(histogram, exact=False) == pytest.approx(code, abs=1e-6)
    assert histogram_median(histogram, exact=True) == pytest.approx(exact, abs=1e-6)


def test_the_exact_median_is_that_of_the_values():
    values = torch.rand(1001, generator=torch.Generator().manual_seed(0)) ** 2
    counts = (values * 100).long().bincount(minlength=100)
    assert histogram_median(counts, exact=True) == pytest.approx(values.median().item(), abs=.01)


def test_the_code_never_looks_into_bin_29():
    counts = torch.zeros(100, dtype=torch.long)
    counts[29] = 1000  # int(29 / 100 * 100) is 28
    assert histogram_median(counts, exact=True) == pytest.approx(.295)
    assert histogram_median(counts, exact=False) == -math.inf
