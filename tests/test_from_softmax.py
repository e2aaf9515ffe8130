"""Filters of a softmax become filters of sigmoids."""
import math

import pytest
import torch

from ssul_mmseg.solver.cells import Cells
from ssul_mmseg.solver.from_softmax import calibrate, none_of, one_against_rest, softmax_cells, undecided_bias


def drawn(classes, size=6, number=400):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(number, size, generator=generator), torch.randn(classes, size, generator=generator),
            torch.randn(classes, generator=generator))


def test_two_classes_get_the_softmaxs_own_probabilities():
    features, weight, bias = drawn(2)
    new_weight, new_bias = one_against_rest(weight, bias)
    torch.testing.assert_close((features @ new_weight.T + new_bias).sigmoid(), (features @ weight.T + bias).softmax(1))


def test_where_the_others_tie_the_score_is_exact():
    weight, bias = torch.tensor([[3.], [1.], [1.], [1.]]), torch.tensor([.5, .25, .25, .25])
    new_weight, new_bias = one_against_rest(weight, bias)
    features = torch.tensor([[2.], [-1.]])
    probability = (features @ weight.T + bias).softmax(1)[:, 0]
    torch.testing.assert_close((features @ new_weight.T + new_bias).sigmoid()[:, 0], probability)
    # By hand, at the feature 2: z = (6.5, 2.25, 2.25, 2.25), s = 4/3 (6.5 - 3.3125) - log 3.
    assert (2 * new_weight[0] + new_bias[0]).item() == pytest.approx(4.25 - math.log(3), abs=1e-6)


def test_the_largest_stays_the_largest_and_the_log_odds_are_bounded():
    features, weight, bias = drawn(7)
    old = features @ weight.T + bias
    new_weight, new_bias = one_against_rest(weight, bias)
    new = features @ new_weight.T + new_bias
    assert torch.equal(old.argmax(1), new.argmax(1))
    odds = torch.stack([old[:, c] - torch.cat([old[:, :c], old[:, c + 1:]], 1).logsumexp(1) for c in range(7)], 1)
    assert (new >= odds - 1e-5).all() and (new.sigmoid() - old.softmax(1)).abs().mean() < .2


def test_unknown_is_what_no_class_claims():
    shares = torch.tensor([[1., 0., 0.], [.5, .5, 0.], [1 / 3] * 3])
    torch.testing.assert_close(none_of(shares), torch.tensor([0., .25, 8 / 27]))
    assert torch.tensor(undecided_bias(3)).sigmoid().item() == pytest.approx(8 / 27, abs=1e-6)


def test_calibrated_scores_are_nearer_to_the_softmaxs():
    features, weight, bias = drawn(4, number=4000)
    cells = softmax_cells(features, weight, bias)
    assert isinstance(cells, Cells) and cells.targets.shape == (4000, 5)
    start_weight, start_bias = one_against_rest(weight, bias)
    start = torch.cat([start_weight, torch.zeros(1, 6)]), torch.cat([start_bias, torch.full((1, ), undecided_bias(4))])
    found = calibrate([cells], *start, ['a', 'b', 'c', 'd', 'unknown'])

    def loss(filters, offset):
        logits = features @ filters.T + offset
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, cells.targets).item()
    assert loss(found.weight, found.bias) < .8 * loss(*start) and not found.kept
    agree = (features @ found.weight.T + found.bias).argmax(1) == cells.targets[:, :-1].argmax(1)
    assert agree.float().mean() > .9


def test_a_class_that_the_images_hardly_show_keeps_its_filter():
    features, weight, bias = drawn(4)
    bias[2] = -40
    start = torch.cat([weight, weight[:1]]), torch.cat([bias, bias[:1]])
    found = calibrate([softmax_cells(features, weight, bias)], *start, ['a', 'b', 'c', 'd', 'unknown'])
    assert found.kept == ['c'] and torch.equal(found.weight[2], weight[2]) and found.bias[2] == -40
    assert not torch.equal(found.weight[1], weight[1])
