import pytest
import torch

from ssul_mmseg.models.dropout import BatchDropout2d


def dropped(ratio, seed, places, size, channels=400):
    layer = BatchDropout2d(ratio).train()
    layer.begin_batch(seed, places, size)
    return layer(torch.ones(len(places), channels, 2, 3))


def test_processes_drop_what_one_drops():
    whole = dropped(.3, 7, range(4), 4)
    assert torch.equal(torch.cat([dropped(.3, 7, [0, 1], 4), dropped(.3, 7, [2, 3], 4)]), whole)
    assert torch.equal(dropped(.3, 7, [3, 1], 4), whole[[3, 1]])
    assert dropped(.3, 7, [], 4).shape == (0, 400, 2, 3)
    assert not torch.equal(dropped(.3, 8, range(4), 4), whole)


def test_whole_channels_are_dropped_and_the_mean_stays():
    values = dropped(.25, 1, range(8), 8)
    assert values.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert torch.equal(values, values[:, :, :1, :1].expand_as(values))
    assert values.mean().item() == pytest.approx(1, abs=.02)
    assert (values[0] != values[1]).any()


def test_it_is_plain_dropout_where_no_batch_was_announced_and_nothing_in_evaluation():
    layer, inputs = BatchDropout2d(.5), torch.randn(2, 50, 3, 3)
    torch.manual_seed(3)
    found = layer(inputs)
    torch.manual_seed(3)
    assert torch.equal(found, torch.nn.functional.dropout2d(inputs, .5))
    layer.begin_batch(0, range(2), 2)
    assert torch.equal(layer.eval()(inputs), inputs)
