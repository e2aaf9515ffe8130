"""Bring the filters of a network that was trained by softmax to the scale of sigmoids, one against the rest."""
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .cells import Cells, Columns, pixels
from .newton import solve

LEAST_CELLS = 50.
"""A class with fewer cells in the images, in expectation, keeps its filter: the images say too little of it."""


@dataclass(frozen=True)
class Calibration:
    """Filters that were calibrated on images.

    Args:
        weight: float32 (K, d).
        bias: float32 (K,).
        kept: names of the channels that the images hardly show, whose filters are those from before.
    """

    weight: Tensor
    bias: Tensor
    kept: list[str]


def one_against_rest(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    r"""Filters whose sigmoids are about the probabilities of a softmax, from the softmax's filters alone.

    The log-odds of class c are :math:`z_c - \log \sum_{j \ne c} e^{z_j}`. With Jensen's inequality the sum over the
    K - 1 others is at least K - 1 times the exponential of their mean, so that the log-odds are at most

    .. math:: s_c = z_c - \tfrac{1}{K - 1} \sum_{j \ne c} z_j - \log (K - 1)
              = \tfrac{K}{K - 1} (z_c - \bar z) - \log (K - 1)

    which is linear in the features. It is exact for two classes and wherever the others tie; and as all classes are
    scaled and shifted alike, the largest stays the largest everywhere.

    Args:
        weight: float (K, d), K at least 2.
        bias: float (K,).

    Returns:
        Weight and bias of the same shapes.
    """
    num = len(bias)
    scale = num / (num - 1)
    return scale * (weight - weight.mean(0)), scale * (bias - bias.mean()) - math.log(num - 1)


def none_of(probabilities: Tensor) -> Tensor:
    r"""Probability (N,) that none of K independent judges says yes, :math:`\prod_c (1 - p_c)` of (N, K): unknown's."""
    return (1 - probabilities).clamp(min=0).prod(dim=1)


def undecided_bias(num_channels: int) -> float:
    """Logit of :func:`none_of` where K channels tie: the constant score of what a network has never learned."""
    none = (1 - 1 / num_channels) ** num_channels
    return math.log(none / (1 - none))


def softmax_cells(features: Tensor, weight: Tensor, bias: Tensor) -> Cells:
    """Cells whose targets are the softmax of old filters, and unknown's share last.

    Args:
        features: float32 (N, d).
        weight: float32 (K, d), the old filters.
        bias: float32 (K,).
    """
    shares = (features @ weight.T + bias).softmax(dim=1)
    return Cells(features, torch.cat([shares, none_of(shares).unsqueeze(1)], dim=1), features.new_ones(len(features)))


def calibrate(blocks: Sequence[Cells], weight: Tensor, bias: Tensor, names: Sequence[str]) -> Calibration:
    """Minimise each channel's cross-entropy with the old softmax's scores on images' cells, by Newton's method.

    Args:
        blocks: of :func:`softmax_cells`.
        weight: float32 (K, d), where the filters start, unknown's last.
        bias: float32 (K,).
        names: of the channels.

    Raises:
        InputError: the features hold NaN or infinite values.
    """
    shown = pixels(blocks, len(names))
    columns = [place for place, count in enumerate(shown.tolist()) if count >= LEAST_CELLS]
    weight, bias = weight.clone(), bias.clone()
    if columns:
        found = solve(Columns(blocks, columns), weight[columns], bias[columns], [names[place] for place in columns])
        weight[columns], bias[columns] = found.weight.to(weight), found.bias.to(bias)
    return Calibration(weight, bias, [name for place, name in enumerate(names) if place not in columns])
