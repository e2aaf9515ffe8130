"""The paper's loss at full resolution, minimised: what the problem over cells is measured against."""
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.losses import IGNORED, upsampled_sigmoid_bce
from .cells import add_over_processes


@dataclass(frozen=True)
class Maps:
    """Feature maps and labels of some images of one size.

    Args:
        features: float16 or float32 (B, d, h, w).
        target: integer (B, H, W), a channel 0..K-1, ``losses.NO_POSITIVE`` or ``losses.IGNORED``.
    """

    features: Tensor
    target: Tensor


def full_loss(batches: Iterable[Maps], filters: Tensor, align_corners: bool = False) -> tuple[Tensor, Tensor]:
    """Loss of the bilinearly upsampled logits, and its gradient.

    Args:
        batches: the maps of this process.
        filters: float64 (K, d + 1), the bias last.
        align_corners: as in :func:`torch.nn.functional.interpolate`.

    Returns:
        The sum over all processes and channels, float64, in nats times cells (a pixel weighs h w / (H W)), and its
        gradient, float64 (K, d + 1).
    """
    loss, gradient = filters.new_zeros(()), torch.zeros_like(filters)
    for batch in batches:
        features = batch.features.float()
        logits = torch.einsum('kd,bdhw->bkhw', filters[:, :-1].float(), features)
        logits += filters[:, -1].float().view(1, -1, 1, 1)
        cell = features[0, 0].numel() / batch.target[0].numel()
        with torch.enable_grad():
            value = upsampled_sigmoid_bce(logits.requires_grad_(), batch.target, align_corners)
            slope, = torch.autograd.grad(value, logits)
        loss += value.detach().double() * cell
        gradient[:, :-1] += torch.einsum('bkhw,bdhw->kd', slope, features) * cell
        gradient[:, -1] += slope.sum(dim=(0, 2, 3)) * cell
    loss, gradient = add_over_processes(loss, gradient)
    return loss, gradient


def solve_full(batches: Iterable[Maps], filters: Tensor, curvature: Tensor, start: Tensor, pull: float,
               tolerance: float = 1e-6, max_iterations: int = 100, align_corners: bool = False) -> Tensor:
    """Minimise :func:`full_loss` with the penalty of Newton by L-BFGS, where the problem over cells is round.

    Args:
        batches: the maps of this process, passed over about once per iteration.
        filters: float64 (K, d + 1), where to start, best the minimum over cells.
        curvature: float64 (K, d + 1, d + 1), the Hessian over cells at ``filters``, its penalty included.
        start: float64 (K, d + 1), near which the penalty holds the weights.
        pull: the penalty is ``pull / 2`` times the squared distance from ``start``, see
            :func:`~ssul_mmseg.solver.newton.solve`.
        tolerance: of the largest entry of the mean loss's gradient in these coordinates.
        max_iterations: of L-BFGS.
        align_corners: as in :func:`torch.nn.functional.interpolate`.

    Returns:
        The minimum, float64 (K, d + 1).
    """
    factor = torch.linalg.cholesky(curvature)
    valid = sum(((batch.target != IGNORED).sum() * batch.features[0, 0].numel() / batch.target[0].numel()
                 for batch in batches), filters.new_zeros(()))
    valid, = add_over_processes(valid)
    root = valid.sqrt()
    # filters = start + sqrt(valid) L^-T moved: of the mean loss, the Hessian over cells, L L^T / valid, becomes I.
    moved = torch.zeros_like(filters).requires_grad_()

    def unwhitened() -> Tensor:
        change = torch.linalg.solve_triangular(factor.mT, moved.detach().unsqueeze(2), upper=True)
        return filters + root * change.squeeze(2)

    def closure() -> Tensor:
        found = unwhitened()
        loss, gradient = full_loss(batches, found, align_corners)
        distance = (found - start)[:, :-1]
        loss += pull / 2 * distance.square().sum()
        gradient[:, :-1] += pull * distance
        moved.grad = torch.linalg.solve_triangular(factor, gradient.unsqueeze(2), upper=False).squeeze(2) / root
        return loss / valid

    optimizer = torch.optim.LBFGS([moved], max_iter=max_iterations, max_eval=2 * max_iterations, history_size=20,
                                  tolerance_grad=tolerance, tolerance_change=0, line_search_fn='strong_wolfe')
    optimizer.step(closure)
    return unwhitened()
