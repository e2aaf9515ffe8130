import pytest
import torch
import torch.nn.functional as F

from ssul_mmseg.models.losses import IGNORED, NO_POSITIVE, channel_table, lookup, upsampled_sigmoid_bce
from ssul_mmseg.solver.cells import AT_ONCE, Cells, cells_of, in_chunks, soft_targets


def test_shares_and_weights_by_hand():
    # One row of two cells, four pixels: bilinear weights of the first cell are 1, 3/4, 1/4, 0.
    target = torch.tensor([[[0, 1, 1, IGNORED]]])
    shares, weights = soft_targets(target, 2, (1, 2))
    assert weights.tolist() == [[[1.0, 0.5]]]  # (1 + 3/4 + 1/4 + 0) / 2 and (0 + 1/4 + 3/4) / 2
    assert shares[0, 0, 0].tolist() == [0.5, 0.0]
    assert shares[0, 1, 0].tolist() == [0.5, 1.0]


def test_a_map_without_ignored_pixels_weighs_one_a_cell_on_average():
    target = torch.randint(NO_POSITIVE, 3, (2, 33, 49), generator=torch.Generator().manual_seed(0))
    shares, weights = soft_targets(target, 3, (3, 4))
    torch.testing.assert_close(weights.mean((1, 2)), torch.ones(2))
    assert shares.min() >= 0 and shares.sum(1).max() <= 1 + 1e-6


def test_no_valid_pixel_means_no_weight_and_no_share():
    shares, weights = soft_targets(torch.full((1, 8, 8), IGNORED), 2, (2, 2))
    assert not weights.any() and not shares.any()
    assert len(cells_of(torch.ones(1, 3, 2, 2), shares, weights).weights) == 0


@pytest.mark.parametrize('align_corners', [False, True])
def test_the_linear_term_is_the_paper_s_and_the_loss_an_upper_bound(align_corners):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 4, 5, generator=generator) * 4
    target = torch.randint(IGNORED, 3, (2, 31, 37), generator=generator)
    shares, weights = soft_targets(target, 3, (4, 5), align_corners)
    pixels = 31 * 37 / 20
    linear = (weights.unsqueeze(1) * shares * logits).sum() * pixels
    scores = F.interpolate(logits, size=(31, 37), mode='bilinear', align_corners=align_corners)
    expected = sum(scores[:, k][target == k].sum() for k in range(3))
    torch.testing.assert_close(linear, expected, rtol=1e-5, atol=1e-3)
    over_cells = (weights.unsqueeze(1) * (F.softplus(logits) - shares * logits)).sum() * pixels
    paper = upsampled_sigmoid_bce(logits, target, align_corners)
    assert over_cells > paper
    # Where the scores are constant nothing is lost.
    flat = torch.full_like(logits, 0.7)
    torch.testing.assert_close((weights.unsqueeze(1) * (F.softplus(flat) - shares * flat)).sum() * pixels,
                               upsampled_sigmoid_bce(flat, target, align_corners), rtol=1e-5, atol=1e-3)


def test_old_classes_cost_nothing_and_change_nothing():
    generator = torch.Generator().manual_seed(2)
    among_few = torch.randint(IGNORED, 6, (2, 24, 24), generator=generator)  # background, 3 old, 1 new, unknown
    kept = torch.tensor([0, 4, 5])
    few = lookup(channel_table(6, kept.tolist(), torch.device('cpu')), among_few - IGNORED)
    moved = torch.where(among_few > 3, among_few + 1000, among_few)
    many = lookup(channel_table(1006, [0, 1004, 1005], torch.device('cpu')), moved - IGNORED)
    for a, b in zip(soft_targets(few, 3, (3, 3)), soft_targets(many, 3, (3, 3)), strict=True):
        assert torch.equal(a, b)


def test_cells_keep_each_cell_s_own_feature_share_and_weight():
    features = torch.arange(24.).view(2, 3, 2, 2)
    weights = torch.tensor([[[1., 0.], [2., 3.]], [[4., 5.], [6., 0.]]])
    shares = torch.arange(16.).view(2, 2, 2, 2)
    cells = cells_of(features, shares, weights)
    assert cells.weights.tolist() == [1, 2, 3, 4, 5, 6]
    assert cells.features[2].tolist() == features[0, :, 1, 1].tolist()
    assert cells.targets[4].tolist() == shares[1, :, 0, 1].tolist()


def test_chunks_hold_all_cells_once_in_float32_with_a_one():
    count = AT_ONCE + 5
    cells = Cells(torch.arange(count).view(-1, 1).half(), torch.rand(count, 2), torch.rand(count))
    chunks = list(in_chunks([cells]))
    assert [len(inputs) for inputs, _, _ in chunks] == [AT_ONCE, 5]
    inputs = torch.cat([x for x, _, _ in chunks])
    assert inputs.dtype == torch.float32 and bool((inputs[:, 1] == 1).all())
    assert torch.equal(inputs[:, 0], cells.features[:, 0].float())
