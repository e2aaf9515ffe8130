"""What later tasks have of the cells of earlier ones: draws from each class's mean and covariance, and exemplars."""
from collections.abc import Iterable, Mapping, Sequence

import torch
from mmengine.dist import is_main_process
from torch import Tensor

from ..errors import InputError
from .cells import NOT_FINITE, Cells, Joined, add_over_processes, in_chunks


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
    moments, = add_over_processes(moments)
    if not moments.isfinite().all():
        raise InputError(NOT_FINITE)
    return moments


def draw_cells(moments: Mapping[int, Tensor], learning: Sequence[int], total: int, seed: int) -> Cells:
    r"""Cells that stand for those of earlier tasks: draws from a Gaussian of each class's mean and covariance.

    The draws of a class weigh together as much as its cells did, :math:`n_c`: their part of the loss estimates
    :math:`n_c \, \mathrm{E}[\mathrm{softplus}(z) - t z]`, what the class's own cells would add if they were Gaussian.
    Classes share the draws like :math:`\sqrt{n_c}`, so that the error of each part shrinks evenly, and so that the
    cost does not grow with the number of old classes. A class with more than two draws a feature gets draws of
    exactly its mean and covariance.

    Args:
        moments: :func:`class_moments` of each class, by label; background included, unknown left out: what was
            unknown then may be the class that is learned now.
        learning: the label that each channel learns; draws of that label are its positives, all others negatives.
        total: number of draws, about; a class has at least one.
        seed: of the draws, with the label.

    Returns:
        Cells with float32 features (N, d).
    """
    present = {label: moment for label, moment in moments.items() if moment[-1, -1] > 0}
    roots = {label: moment[-1, -1].sqrt().item() for label, moment in present.items()}
    features, targets, weights = [], [], []
    for label, moment in present.items():
        count = max(1, round(total * roots[label] / sum(roots.values())))
        features.append(_draw_gaussian(moment, count, seed * 1_000_003 + label))
        targets.append(torch.tensor([[float(label == own) for own in learning]]).expand(count, -1))
        weights.append((moment[-1, -1] / count).float().expand(count))
    device = features[0].device
    return Cells(torch.cat(features), torch.cat(targets).to(device), torch.cat(weights))


def stand_ins(moments: Mapping[int, Tensor], learning: Sequence[int], total: int, seed: int, task: int) -> list[Cells]:
    """This process's part of the draws that stand for earlier tasks, see :func:`draw_cells`.

    All processes would draw the same, which counts once: the main process has all of them.

    Args:
        moments: as in :func:`draw_cells`.
        learning: likewise.
        total: likewise.
        seed: of the run.
        task: the task that is learned, which makes the draws its own.
    """
    return [draw_cells(moments, learning, total, seed * 1009 + task)] if is_main_process() else []


def weighed_alike(current: Iterable[Cells], *others: Iterable[Cells]) -> Joined:
    """The cells of a task, and others that each weigh together as much as the task's own (SSUL, Algorithm 1).

    A batch of SSUL-M holds as many exemplars as images of the task, so over an epoch both halves have one share of
    the loss, whatever their numbers.

    Args:
        current: the task's cells of this process; passed over once here.
        others: such as the exemplars' cells of this process; likewise.

    Raises:
        InputError: no pixel of one of the others is valid.
    """
    own, *weights = add_over_processes(_weight(current), *map(_weight, others))
    if not all(weight > 0 for weight in weights):
        raise InputError('the exemplars show no valid pixel; check the masks that the memory\'s manifest names')
    factors = [(own / weight).item() for weight in weights]
    return Joined((current, 1.0), *zip(others, factors, strict=True))


def _weight(blocks: Iterable[Cells]) -> Tensor:
    """Sum of all weights, float64 ()."""
    return sum((cells.weights.sum(dtype=torch.double).cpu() for cells in blocks), torch.zeros((), dtype=torch.double))


def _draw_gaussian(moment: Tensor, count: int, seed: int) -> Tensor:
    """Draws float32 (count, d) from the Gaussian of a class's moments (d + 1, d + 1)."""
    mean = moment[:-1, -1] / moment[-1, -1]
    values, vectors = torch.linalg.eigh(moment[:-1, :-1] / moment[-1, -1] - mean.outer(mean))
    # What rounding made negative is 0: a constant feature.
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    chance = torch.Generator().manual_seed(seed)
    draws = torch.randn(count, len(mean), generator=chance, dtype=torch.double).to(moment.device)
    if count > 2 * len(mean):
        # Moved and turned so that their mean is 0 and their covariance the identity.
        draws = draws - draws.mean(0)
        factor = torch.linalg.cholesky(draws.T @ draws / count)
        draws = torch.linalg.solve_triangular(factor, draws.T, upper=False).T
    return (mean + draws @ root).float()
