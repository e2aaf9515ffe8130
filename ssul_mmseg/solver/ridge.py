"""A classifier in closed form: class-weighted ridge regression on a frozen trunk's features, exact over tasks."""
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..errors import InputError
from .cells import NOT_FINITE, Cells, in_chunks, reduced

# A feature that varies less than this share of the mean deviation is constant: dividing by it would raise rounding.
CONSTANT = 1e-6


class FeatureMap:
    r"""What the ridge regresses on: standardised features or random combinations, and the trained base's opinion.

    .. math:: \phi(x) = \big( \hat x, \; \mathrm{softmax}(F (x, 1)), \; 1 \big), \qquad \hat x = (x - m) / s

    F are the base task's trained filters (background, its classes, unknown). A regression on x alone replaces them by
    worse ones; with their opinion among its inputs it keeps what they know, and all classes share one scale. With a
    ``width`` :math:`\mathrm{ReLU}(R \hat x)` stands for :math:`\hat x` (ACIL, SegACIL), R uniform in
    :math:`\pm 1 / \sqrt d` and a function of (seed, width, d), so that it need not be saved. A constant feature
    becomes 0.

    Args:
        mean: float64 (d,), m, of task 0's cells.
        deviation: float64 (d,), s, of task 0's cells.
        base: float (n, d + 1), F, the bias last; None: without that part.
        width: number of random combinations; 0: the features themselves.
        seed: of R.
    """

    def __init__(self, mean: Tensor, deviation: Tensor, base: Tensor | None = None, width: int = 0,
                 seed: int = 0) -> None:
        constant = deviation <= CONSTANT * deviation.mean()
        self.mean = mean.double()
        self.gain = deviation.double().masked_fill(constant, torch.inf).reciprocal()
        self.base = None if base is None else base.double()
        self.size = (width or len(mean)) + (0 if base is None else len(base)) + 1
        self.combinations = None
        if width:
            chance = torch.Generator().manual_seed(seed)
            uniform = torch.rand(len(mean), width, generator=chance, dtype=torch.double)
            self.combinations = ((2 * uniform - 1) / len(mean)**0.5).to(self.mean)

    def __call__(self, features: Tensor) -> Tensor:
        """Map float (N, d) to float64 (N, size), the last column a one.

        Doubles, as in float32 a product's rounding depends on which cells share a chunk, and the promise that tasks
        one by one equal all at once would hold to 1e-7, not to 1e-9.
        """
        features = features.double()
        mapped = (features - self.mean) * self.gain
        if self.combinations is not None:
            mapped = (mapped @ self.combinations).relu_()
        parts = [mapped]
        if self.base is not None:
            parts.append((features @ self.base[:, :-1].T + self.base[:, -1]).softmax(1))
        return torch.cat([*parts, torch.ones_like(mapped[:, :1])], dim=1)


def statistics(blocks: Iterable[Cells], width: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation, float64 (d,), of the cells of all processes, each with its weight.

    Args:
        blocks: the cells of this process, which may be none.
        width: d, number of features.

    Raises:
        InputError: there is no cell in any process, or the features hold NaN or infinite values.
    """
    sums = torch.zeros(2, width + 1, dtype=torch.double)
    for inputs, _, weights in in_chunks(blocks):
        inputs, weights = inputs.double(), weights.double()
        sums = sums.to(inputs.device) + torch.stack([weights @ inputs, weights @ inputs.square()])
    sums, = reduced(sums)
    if not sums.isfinite().all():
        raise InputError(NOT_FINITE)
    if not sums[0, -1] > 0:
        raise InputError('the task shows no labelled pixel, so its features have no mean; give it images whose masks '
                         'show something')
    mean, square = sums[:, :-1] / sums[0, -1]
    return mean, (square - mean.square()).clamp(min=0).sqrt()


def learn(state: dict[str, Tensor], blocks: Iterable[Cells], features: FeatureMap, names: Sequence[str],
          power: float = 0.4) -> dict[str, Tensor]:
    r"""Add a task to the sums from which the classifier follows.

    .. math:: G_f = \sum_{c > 0} n_c^{-p} \sum_i s_{ic} \phi_i \phi_i^\top, \quad
              G_0 = \sum_i s_{i0} \phi_i \phi_i^\top, \quad m_c = \sum_i s_{ic} \phi_i, \quad n_c = \sum_i s_{ic}

    with :math:`s_{ic}` the pixels of class c in cell i, in units of a cell's pixels. A class is labelled in its own
    task alone, so its weight :math:`n_c^{-p}` is final there. Background (c = 0) grows from task to task: its sum
    stays apart, without weight. Unknown has no column in the targets and counts nowhere; the pixels of old classes
    are in their own task's sums.

    Args:
        state: of the task before, or empty.
        blocks: the cells of this process; the columns of their targets are [background, the task's classes].
        features: the map :math:`\phi`.
        names: of the columns, for messages.
        power: p in [0, 1], the same in all tasks.

    Returns:
        The new state, float64, equal in all processes: 'foreground' and 'background' (D, D), 'moments' (C, D) and
        'counts' (C,), C = 1 + all classes so far, D = ``features.size``.

    Raises:
        InputError: a class of the task has no pixel, or the features hold NaN or infinite values.
    """
    device = features.mean.device
    counts = torch.zeros(len(names), dtype=torch.double, device=device)
    for _, targets, weights in in_chunks(blocks):
        counts += weights.double() @ targets.double()
    counts, = reduced(counts)
    for name, count in zip(names[1:], counts[1:].tolist(), strict=True):
        if not count > 0:
            raise InputError(f'no training pixel shows {name}, so it cannot be learned; give the task images that '
                             'show it, or a larger crop')
    grams = torch.zeros(2, features.size, features.size, dtype=torch.double, device=device)
    moments = torch.zeros(len(names), features.size, dtype=torch.double, device=device)
    for inputs, targets, weights in in_chunks(blocks):
        mapped = features(inputs[:, :-1])
        shares = targets.double() * weights.double().unsqueeze(1)
        moments += shares.T @ mapped
        for gram, weight in zip(grams, (shares[:, 1:] @ counts[1:].pow(-power), shares[:, 0]), strict=True):
            used = weight > 0
            weighted = mapped[used] * weight[used].sqrt().unsqueeze(1)
            gram += weighted.T @ weighted
    grams, moments = reduced(grams, moments)
    if not moments.isfinite().all():
        raise InputError(NOT_FINITE)
    task = dict(foreground=grams[0], background=grams[1], moments=moments, counts=counts)
    return merged(state, task) if state else task


def merged(state: dict[str, Tensor], task: dict[str, Tensor]) -> dict[str, Tensor]:
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
