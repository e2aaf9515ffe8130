"""A classifier in closed form: class-weighted ridge regression on a frozen trunk's features, exact over tasks."""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from .cells import NOT_FINITE, Cells, add_over_processes, in_chunks

# A feature that varies less than this share of the mean deviation is constant: dividing by it would raise rounding.
CONSTANT = 1e-6


class FeatureMap:
    r"""What the ridge regresses on: standardised features and the trained base's opinion.

    .. math:: \phi(x) = \big( \hat x, \; \mathrm{softmax}(F (x, 1)), \; 1 \big), \qquad \hat x = (x - m) / s

    F are the base task's trained filters (background, its classes, unknown). A regression on x alone replaces them by
    worse ones; with their opinion among its inputs it keeps what they know, and all classes share one scale. A constant
    feature becomes 0.

    Args:
        base: float (n, d + 1), F, the bias last; n may be 0.
        mean: float64 (d,), m, of task 0's cells; None: 0.
        deviation: float64 (d,), s, of task 0's cells; None: 1.
    """

    def __init__(self, base: Tensor, mean: Tensor | None = None, deviation: Tensor | None = None) -> None:
        self.base = base.double()
        self.size = base.shape[1] + len(base)
        self.mean = self.base.new_zeros(base.shape[1] - 1) if mean is None else mean.double()
        deviation = torch.ones_like(self.mean) if deviation is None else deviation.double()
        constant = deviation <= CONSTANT * deviation.mean()
        self.gain = deviation.masked_fill(constant, torch.inf).reciprocal()

    def __call__(self, features: Tensor) -> Tensor:
        """Map float (N, d) to float64 (N, size), the last column a one.

        Doubles, as in float32 a product's rounding depends on which cells share a chunk, and the promise that tasks
        one by one equal all at once would hold to 1e-7, not to 1e-9.
        """
        width = len(self.mean)
        # In place: copies of the features would be most of the memory that a solution takes.
        mapped = features.new_ones(len(features), self.size, dtype=torch.double)
        standardised = mapped[:, :width].copy_(features)
        mapped[:, width:-1] = (standardised @ self.base[:, :-1].T + self.base[:, -1]).softmax(1)
        standardised.sub_(self.mean).mul_(self.gain)
        return mapped

    def from_raw(self) -> Tensor:
        r"""The matrix A, float64 (size, size), with :math:`\phi = A \, (x, \mathrm{softmax}(F (x, 1)), 1)`."""
        matrix = torch.eye(self.size, dtype=torch.double, device=self.base.device)
        width = len(self.mean)
        matrix[:width, :width] = self.gain.diag()
        matrix[:width, -1] = -self.gain * self.mean
        return matrix


@dataclass(frozen=True)
class Sums:
    r"""Sums over the cells of each column c of the targets, :math:`s_{ic}` its pixels in cell i.

    Args:
        grams: float64 (K, D, D), :math:`\sum_i s_{ic} \phi_i \phi_i^\top`.
        moments: float64 (K, D), :math:`\sum_i s_{ic} \phi_i`.
        counts: float64 (K,), :math:`\sum_i s_{ic}`, in units of a cell's pixels.
    """

    grams: Tensor
    moments: Tensor
    counts: Tensor

    def map(self, matrix: Tensor) -> 'Sums':
        r"""The sums of :math:`A \phi` for a matrix A, float64 (D', D)."""
        return Sums(matrix @ self.grams @ matrix.T, self.moments @ matrix.T, self.counts)

    def statistics(self, width: int) -> tuple[Tensor, Tensor]:
        """Mean and deviation, float64 (width,), of the first features over the cells of all columns.

        Raises:
            InputError: there is no cell.
        """
        total = self.counts.sum()
        if not total > 0:
            raise InputError('the task shows no labelled pixel, so its features have no mean; give it images whose '
                             'masks show something')
        mean = self.moments[:, :width].sum(0) / total
        square = self.grams.diagonal(dim1=1, dim2=2)[:, :width].sum(0) / total
        return mean, (square - mean.square()).clamp(min=0).sqrt()


def sums(blocks: Iterable[Cells], features: FeatureMap, columns: int) -> Sums:
    r"""Sums over the cells of all processes, in one pass over them.

    Args:
        blocks: the cells of this process, which may be none.
        features: the map :math:`\phi`.
        columns: K, columns of their targets.

    Raises:
        InputError: the features hold NaN or infinite values.
    """
    device = features.mean.device
    grams = torch.zeros(columns, features.size, features.size, dtype=torch.double, device=device)
    moments = torch.zeros(columns, features.size, dtype=torch.double, device=device)
    counts = torch.zeros(columns, dtype=torch.double, device=device)
    for inputs, targets, weights in in_chunks(blocks):
        mapped = features(inputs[:, :-1])
        shares = targets.double() * weights.double().unsqueeze(1)
        moments += shares.T @ mapped
        counts += shares.sum(0)
        for gram, share in zip(grams, shares.unbind(1), strict=True):
            shown = share > 0
            weighted = mapped[shown] * share[shown].sqrt().unsqueeze(1)
            gram += weighted.T @ weighted
    grams, moments, counts = add_over_processes(grams, moments, counts)
    # A cell that no column shows counts nowhere, but a NaN times 0 is a NaN.
    if not moments.isfinite().all():
        raise InputError(NOT_FINITE)
    return Sums(grams, moments, counts)


def learn(state: dict[str, Tensor], task: Sums, names: Sequence[str], power: float = 0.4) -> dict[str, Tensor]:
    r"""Add a task to the sums from which the classifier follows.

    .. math:: G_f = \sum_{c > 0} n_c^{-p} \sum_i s_{ic} \phi_i \phi_i^\top, \quad
              G_0 = \sum_i s_{i0} \phi_i \phi_i^\top, \quad m_c = \sum_i s_{ic} \phi_i, \quad n_c = \sum_i s_{ic}

    A class is labelled in its own task alone, so its weight :math:`n_c^{-p}` is final there. Background (c = 0) grows
    from task to task: its sum stays apart, without weight. Unknown has no column and counts nowhere.

    Args:
        state: of the task before, or empty.
        task: sums of the columns [background, the task's classes].
        names: of the columns, for messages.
        power: p in [0, 1], the same in all tasks.

    Returns:
        The new state, float64: 'foreground' and 'background' (D, D), 'moments' (C, D) and 'counts' (C,), C = 1 + all
        classes so far.

    Raises:
        InputError: a class of the task has no pixel.
    """
    for name, count in zip(names[1:], task.counts[1:].tolist(), strict=True):
        if not count > 0:
            raise InputError(f'no training pixel shows {name}, so it cannot be learned; give the task images that '
                             'show it, or a larger crop')
    own = dict(
        foreground=torch.einsum('k,kij->ij', task.counts[1:].pow(-power), task.grams[1:]),
        background=task.grams[0], moments=task.moments, counts=task.counts)
    return merge_states(state, own) if state else own


def with_exemplars(state: dict[str, Tensor], exemplars: Sums, power: float = 0.4) -> dict[str, Tensor]:
    """State with the exemplars' cells beside those of all tasks, each with the weight of its class.

    It is for one task's filters alone: in the next task's state the exemplars would count again.

    Args:
        state: of :func:`learn`, the task that replays them included.
        exemplars: sums of the columns [background, all classes so far].
        power: the p that the state was learned with.
    """
    weights = state['counts'][1:].pow(-power)
    counts = state['counts'].clone()
    counts[0] += exemplars.counts[0]
    # Moments are weighted when the filters are solved, with the counts of the classes' own tasks.
    return dict(
        foreground=state['foreground'] + torch.einsum('k,kij->ij', weights, exemplars.grams[1:]),
        background=state['background'] + exemplars.grams[0],
        moments=state['moments'] + exemplars.moments, counts=counts)


def merge_states(state: dict[str, Tensor], task: dict[str, Tensor]) -> dict[str, Tensor]:
    """State of one or more tasks and of one more: sums add up, background's included, classes follow each other."""
    result = {key: state[key] + task[key] for key in ('foreground', 'background')}
    for key in ('moments', 'counts'):
        shared = state[key][:1] + task[key][:1]
        result[key] = torch.cat([shared, state[key][1:], task[key][1:]])
    return result


def classifier(state: dict[str, Tensor], gamma: float = 1.0, power: float = 0.4) -> Tensor:
    r"""Filters of background and of all classes.

    .. math:: W = (G_f + n_0^{-p} G_0 + \gamma I)^{-1} [n_c^{-p} m_c]_c

    It minimises :math:`\sum_c n_c^{-p} \sum_i s_{ic} \lVert W^\top \phi_i - e_c \rVert^2 + \gamma \lVert W \rVert^2`
    (SegACIL's regression with classes weighted): without the weights background, which outnumbers a class fifty to
    one, wins everywhere.

    Args:
        state: of :func:`learn`.
        gamma: ridge parameter > 0.
        power: the p that the state was learned with.

    Returns:
        float64 (C, D).

    Raises:
        InputError: gamma is not positive.
    """
    if not gamma > 0:
        raise InputError(f'the ridge parameter gamma is {gamma!r}; it is a positive number, 1.0 by default')
    # A base task without background pixel has no column to weigh: 0 instead of infinity.
    weights = torch.where(state['counts'] > 0, state['counts'].pow(-power), 0.0)
    system = state['foreground'] + weights[0] * state['background']
    system.diagonal().add_(gamma)
    return torch.linalg.solve(system, (weights.unsqueeze(1) * state['moments']).T).T


def fold(filters: Tensor, features: FeatureMap) -> Tensor:
    r"""The filters (C, D) of :math:`\phi` as filters of :math:`(x, \mathrm{softmax}(F (x, 1)), 1)`: :math:`W A`."""
    return filters @ features.from_raw()
