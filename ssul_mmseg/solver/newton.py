"""Newton's method on the binary cross-entropy of a few filters over the cells of a frozen trunk's features."""
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmseg.registry import TASK_UTILS
from torch import Tensor

from ..errors import InputError
from .cells import NOT_FINITE, Cells, add_over_processes, in_chunks

DECAY = 0.003
"""Of a cell, see :func:`solve`."""
# Least curvature of a cell: far from the minimum a channel may be saturated everywhere, and its bias has no penalty.
LEAST_CURVATURE = 1e-6
# Shares of Newton's step that a line search tries, all of them in one pass over the cells.
STEPS = (1.0, 0.5, 0.25, 0.125, 0.0625, 1 / 64, 1 / 256, 1 / 4096)
# A step that promises less than this share of the loss is below the rounding of a line search, and in the region
# where Newton's full steps converge quadratically.
ROUNDING = 1e-6


@TASK_UTILS.register_module()
@dataclass(frozen=True)
class Newton:
    """Options of :func:`solve` for a task, ``incremental.solver`` of a config.

    Args:
        decay: see :func:`solve`.
        tolerance: see :func:`solve`.
        max_iterations: Newton steps, at most.
        views: augmentations of each image.

    Raises:
        InputError: a value is out of range.
    """

    decay: float = DECAY
    tolerance: float = 1e-6
    max_iterations: int = 50
    views: int = 1

    def __post_init__(self) -> None:
        for name in ('decay', 'tolerance'):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < math.inf:
                raise InputError(f'incremental.solver.{name} is {value!r}; it is a positive number')
        for name in ('max_iterations', 'views'):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f'incremental.solver.{name} is {value!r}; it is a whole number of at least 1')


@dataclass(frozen=True)
class Solution:
    """Filters that minimise their losses.

    Args:
        weight: float64 (K, d).
        bias: float64 (K,).
        loss: float64 (K,), the objective of each channel at its filter, in nats times cells.
        gradient_norm: float64 (K,), see :func:`solve`.
        iterations: int64 (K,), Newton steps of each channel.
        converged: whether every gradient norm is within the tolerance.
    """

    weight: Tensor
    bias: Tensor
    loss: Tensor
    gradient_norm: Tensor
    iterations: Tensor
    converged: bool


def solve(blocks: Iterable[Cells], weight: Tensor, bias: Tensor, names: Sequence[str], decay: float = DECAY,
          tolerance: float = 1e-6, max_iterations: int = 50,
          report: Callable[[int, Tensor, Tensor], None] | None = None) -> Solution:
    r"""Minimise the cross-entropy of each channel over cells, all channels side by side.

    .. math:: L_k = \sum_i w_i \big( \mathrm{softplus}(z_{ik}) - t_{ik} z_{ik} \big)
              + \tfrac{\lambda}{2} \lVert w_k - w_k^0 \rVert^2, \qquad z_{ik} = w_k^\top x_i + b_k

    (SSUL, section 3.4, on the feature grid.) With x frozen every :math:`L_k` is strictly convex in :math:`w_k`, and
    channels share nothing. The penalty holds a filter near its start :math:`w_k^0`, which earlier tasks have learned:
    the images of one task say little of what else it has to tell apart, and SGD, which stops early, stays near it too.
    :math:`\lambda` is ``decay`` times the weight of all cells, so that it means the same for few images and for many.

    A step is :math:`-s H^{-1} g` with :math:`g = X^\top (w (p - t)) + \lambda (w_k - w_k^0)`,
    :math:`H = X^\top \mathrm{diag}(w p (1 - p)) X + \lambda I`,
    :math:`p = \sigma(z)`, no :math:`\lambda` on the bias, and the best s of :data:`STEPS`. Sums are float64 and run
    over the cells of all processes, so that the solution does not depend on how images are shared out.

    Args:
        blocks: the cells of this process; passed over about twice per iteration, so no one-way iterator.
        weight: float (K, d), where the filters start.
        bias: float (K,), where the biases start.
        names: K names for messages.
        decay: positive, :math:`\lambda` for each cell.
        tolerance: of the gradient norm :math:`\lVert g_k \rVert / \sum_i w_i \lVert (x_i, 1) \rVert`, which has no
            unit and is at most 1 without penalty.
        max_iterations: Newton steps, at most.
        report: is called with the number of steps so far, the losses (K,) and the gradient norms (K,).

    Returns:
        The minimum, equal in all processes.

    Raises:
        InputError: ``decay`` is not positive, a channel has no positive or no negative pixel (its minimum would lie
            at infinity), or the features hold NaN or infinite values.
    """
    if not decay > 0:
        raise InputError(f'the solver\'s decay is {decay!r}; it is a positive number, {DECAY} by default')
    filters = torch.cat([weight, bias.unsqueeze(1)], dim=1).double()
    start = filters.clone()
    scale, total = _check_scale(blocks, filters, names)
    pull = decay * total
    loss, norm = filters.new_zeros(len(filters)), filters.new_full((len(filters), ), torch.inf)
    iterations = torch.zeros(len(filters), dtype=torch.long, device=filters.device)
    active = torch.arange(len(filters), device=filters.device)
    for iteration in range(max_iterations + 1):
        moved = filters[active] - start[active]
        loss[active], gradient, hessian = derivatives(blocks, filters[active], active)
        loss[active] += _penalty(moved, pull)
        gradient[:, :-1] += pull * moved[:, :-1]
        hessian.diagonal(dim1=1, dim2=2)[:, :-1] += pull
        norm[active] = gradient.norm(dim=1) / scale
        if report is not None:
            report(iteration, loss, norm)
        goes_on = norm[active] > tolerance
        active, moved = active[goes_on], moved[goes_on]
        gradient, hessian = gradient[goes_on], hessian[goes_on]
        if not len(active) or iteration == max_iterations:
            break
        step = torch.linalg.solve(hessian, gradient)
        searched = (gradient * step).sum(1) / 2 > ROUNDING * loss[active]
        if searched.any():
            sizes = _step_sizes(blocks, filters[active], moved, step, active, pull)
            step *= torch.where(searched, sizes, 1.0).unsqueeze(1)
        filters[active] -= step
        iterations[active] += 1
    return Solution(filters[:, :-1], filters[:, -1], loss, norm, iterations, not len(active))


def derivatives(blocks: Iterable[Cells], filters: Tensor, channels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss (K,), gradient (K, D) and Hessian (K, D, D) in :func:`solve` without its penalty, float64, D = d + 1.

    Args:
        blocks: the cells of this process.
        filters: float64 (K, D), the bias last.
        channels: int64 (K,), the column of the targets that each filter belongs to.

    Raises:
        InputError: the features hold NaN or infinite values.
    """
    loss, gradient = filters.new_zeros(len(filters)), torch.zeros_like(filters)
    hessian = filters.new_zeros(len(filters), filters.shape[1], filters.shape[1])
    single = filters.float()
    for inputs, targets, weights in in_chunks(blocks):
        logits, target, weight = inputs @ single.T, targets[:, channels], weights.unsqueeze(1)
        probability = logits.sigmoid()
        loss += (weight * (F.softplus(logits) - target * logits)).sum(0)
        gradient += (weight * (probability - target)).T @ inputs
        root = (weight * (probability * (1 - probability) + LEAST_CURVATURE)).sqrt_()
        for channel in range(len(filters)):
            weighted = inputs * root[:, channel:channel + 1]
            hessian[channel] += weighted.T @ weighted
    loss, gradient, hessian = add_over_processes(loss, gradient, hessian)
    # One pixel that is not finite makes every sum so, in all processes at once.
    if not gradient.isfinite().all() or not hessian.isfinite().all():
        raise InputError(NOT_FINITE)
    return loss, gradient, hessian


def _penalty(moved: Tensor, pull: float) -> Tensor:
    """Penalty (...,) of filters that are ``moved`` (..., D) away from their start, the bias last and free."""
    return pull / 2 * moved[..., :-1].square().sum(-1)


def _step_sizes(blocks: Iterable[Cells], filters: Tensor, moved: Tensor, step: Tensor, channels: Tensor,
                pull: float) -> Tensor:
    """The share (K,) of each step (K, D) after which the loss of filters that are ``moved`` from the start is least."""
    sizes = filters.new_tensor(STEPS)
    losses = filters.new_zeros(len(STEPS), len(filters))
    for inputs, targets, weights in in_chunks(blocks):
        logits, change, target = inputs @ filters.float().T, inputs @ step.float().T, targets[:, channels]
        for place, size in enumerate(STEPS):
            found = logits - size * change
            losses[place] += weights @ (F.softplus(found) - target * found)
    losses, = add_over_processes(losses)
    losses += _penalty(moved - sizes.view(-1, 1, 1) * step, pull)
    return sizes[losses.argmin(dim=0)]


def _check_scale(blocks: Iterable[Cells], filters: Tensor, names: Sequence[str]) -> tuple[Tensor, float]:
    """Sums of w |(x, 1)| and of w over all cells, after a look at what each channel has to learn from."""
    positive, total, scale = filters.new_zeros(len(filters)), filters.new_zeros(()), filters.new_zeros(())
    for inputs, targets, weights in in_chunks(blocks):
        positive += weights @ targets
        total += weights.sum()
        scale += weights @ inputs.norm(dim=1)
    positive, total, scale = add_over_processes(positive, total, scale)
    for name, share in zip(names, (positive / total).tolist(), strict=True):
        # Not "share == 0": without any cell the share is NaN.
        if not share > 0:
            raise InputError(f'no training pixel shows {name}, so its filter cannot be solved; give the task images '
                             'that show it, or a larger crop')
        if share >= 1 - 1e-9:
            raise InputError(f'all training pixels show {name}, so its filter cannot be solved; give the task images '
                             'that show something else too')
    return scale, total.item()
