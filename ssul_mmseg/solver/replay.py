"""What later tasks have of the cells of earlier ones: draws from each class's mean and covariance, and exemplars."""
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import InputError
from .cells import NOT_FINITE, Cells, in_chunks, reduced


def class_moments(blocks: Iterable[Cells], num_channels: int, width: int) -> Tensor:
    r"""Count, sum and second moment of the cells of each channel, in one matrix each.

    .. math:: M_c = \sum_i s_{ic} (x_i, 1) (x_i, 1)^\top

    with :math:`s_{ic}` the pixels of channel c in cell i. Matrices of two data sets add up; the last entry is the
    count :math:`n_c`, the last column the sum of features.

    Args:
        blocks: the cells of this process.
        num_channels: K, columns of their targets.
        width: d, number of features.

    Returns:
        float64 (K, d + 1, d + 1), of the cells of all processes.

    Raises:
        InputError: the features hold NaN or infinite values.
    """
    moments = torch.zeros(num_channels, width + 1, width + 1, dtype=torch.double)
    for inputs, targets, weights in in_chunks(blocks):
        moments = moments.to(inputs.device)
        for channel, shares in enumerate((targets * weights.unsqueeze(1)).unbind(1)):
            shown = shares > 0
            weighted = inputs[shown] * shares[shown].sqrt().unsqueeze(1)
            moments[channel] += (weighted.T @ weighted).double()
    moments, = reduced(moments)
    if not moments.isfinite().all():
        raise InputError(NOT_FINITE)
    return moments


def drawn_cells(moments: Mapping[int, Tensor], learning: Sequence[int], count: int, seed: int) -> Cells:
    r"""Cells that stand for those of earlier tasks: draws from a Gaussian of each class's mean and covariance.

    A class gets ``count`` draws whose weights add up to its count :math:`n_c`: the sum over them in the loss estimates
    :math:`n_c \, \mathrm{E}[\mathrm{softplus}(z) - t z]`, the loss of the class's own cells if these were Gaussian.
    Mean and covariance of the draws are those of the class exactly, and the same seed draws the same cells.

    Args:
        moments: :func:`class_moments` of each class, by label; background included, unknown left out: what was
            unknown then may be the class that is learned now.
        learning: the label that each channel learns; draws of that label are its positives, all others negatives.
        count: draws of a class, above d.
        seed: of the draws, with the label.

    Returns:
        Cells with float32 features (N, d), N = classes with a pixel x ``count``.
    """
    features, targets, weights = [], [], []
    for label, moment in moments.items():
        total = moment[-1, -1]
        if not total > 0:
            continue
        mean = moment[:-1, -1] / total
        covariance = moment[:-1, :-1] / total - mean.outer(mean)
        chance = torch.Generator().manual_seed(seed * 1_000_003 + label)
        draws = torch.randn(count, len(mean), generator=chance, dtype=torch.double).to(moment.device)
        draws = _whitened(draws) @ _root(covariance)
        features.append((mean + draws).float())
        targets.append(torch.tensor([[float(label == own) for own in learning]]).expand(count, -1))
        weights.append((total / count).float().expand(count))
    if not features:
        raise ValueError('no class has a moment to draw from')
    device = features[0].device
    return Cells(torch.cat(features), torch.cat(targets).to(device), torch.cat(weights))


def half_and_half(current: Sequence[Cells], exemplars: Sequence[Cells]) -> list[Cells]:
    """The cells of a task and of its exemplars, which weigh together as much as the task's own (SSUL, Algorithm 1).

    A batch of SSUL-M holds as many exemplars as images of the task, so over an epoch both halves have one share of
    the loss, whatever their numbers.

    Args:
        current: the task's cells of this process.
        exemplars: the exemplars' cells of this process.

    Raises:
        InputError: no pixel of any exemplar is valid.
    """
    own, other = reduced(_weight(current), _weight(exemplars))
    if not other > 0:
        raise InputError('the exemplars show no valid pixel; check the masks that the memory\'s manifest names')
    return [*current, *(replace(cells, weights=cells.weights * (own / other).item()) for cells in exemplars)]


def _weight(blocks: Sequence[Cells]) -> Tensor:
    """Sum of all weights, float64 ()."""
    return sum((cells.weights.sum(dtype=torch.double).cpu() for cells in blocks), torch.zeros((), dtype=torch.double))


def _root(covariance: Tensor) -> Tensor:
    """Symmetric square root of a positive semidefinite matrix; what rounding made negative becomes 0."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _whitened(draws: Tensor) -> Tensor:
    """Draws (n, d), n > d, moved and turned so that their mean is 0 and their covariance the identity."""
    centred = draws - draws.mean(0)
    factor = torch.linalg.cholesky(centred.T @ centred / len(draws))
    return torch.linalg.solve_triangular(factor, centred.T, upper=False).T
