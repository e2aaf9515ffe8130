"""Entropy of a network's prediction in each pixel, and the median of a histogram of it."""
import math

import torch
from torch import Tensor


def uncertainty(probabilities: Tensor, kind: str, num_seen_channels: int) -> Tensor:
    r"""Entropy of a softmax: normalised, :math:`-\sum_c p_c \log p_c / \log C`, or as PLOP's code has it.

    .. math:: u = - \frac{1}{C} \sum_c p_c \log(p_c + 10^{-8}) \frac{1}{\log C \, \log C_{now}}

    Args:
        probabilities: float (B, C, H, W), of the old network.
        kind: 'normalised' or 'code'.
        num_seen_channels: C_now, background included.

    Returns:
        float (B, H, W); in [0, 1] where it is normalised.
    """
    channels = probabilities.shape[1]
    terms = -probabilities * (probabilities + 1e-8).log() / math.log(channels)
    return terms.sum(1) if kind == 'normalised' else terms.mean(1) / math.log(num_seen_channels)


def histogram_median(counts: Tensor, exact: bool) -> float:
    """Median of values in [0, 1] of which there is a histogram; -inf, inf or NaN where PLOP's code misses it.

    Args:
        counts: int64 (bins,).
        exact: False: as PLOP's code does, which adds up the bins' indices instead of their counts, and reaches a bin by
            rounding its lower border.

    Returns:
        The median, interpolated inside of its bin; 0 without values.

    Example:
        >>> counts = torch.tensor([2, 6, 2, 0, 0, 0, 0, 0, 0, 0])
        >>> round(histogram_median(counts, exact=True), 6), round(histogram_median(counts, exact=False), 6)
        (0.15, 0.183333)
    """
    bins, half = len(counts), counts.sum().item() / 2
    if half == 0:
        return 0.
    below = border = 0.
    count = 0
    for place in range(bins):
        border = place / bins
        count = int(counts[place if exact else int(border * bins)])
        if below <= half <= below + count:
            break
        below += count if exact else border * bins
    # In float64 of torch, as division by 0 is no error there.
    return border + (torch.tensor(half - below, dtype=torch.float64) / count).item() / bins
