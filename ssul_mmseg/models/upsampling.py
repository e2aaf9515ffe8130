"""Argmax and pseudo-labels of bilinearly upsampled logits, without upsampling what cannot win.

Every upsampled value is a convex combination of the (at most four) logits around it. So a class whose largest logit
on the feature grid is at most b stays at most b everywhere, and a class that is beaten at all four corners of a cell by
the smallest corner value of another class cannot win inside that cell.
"""
import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Upsampling rounds: a class this close to a bound is kept, which costs a little work and never a wrong label.
ROUNDING = 1e-4
# Classes upsampled at a time: bounds the memory at full resolution whatever the number of classes.
CHUNK = 8


def upsample(logits: Tensor, size: tuple[int, ...], align_corners: bool = False) -> Tensor:
    """Resize float (B, C, h, w) bilinearly to (B, C, height, width), of which the last two are ``size``."""
    if logits.shape[2:] == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode='bilinear', align_corners=align_corners)


def upsampled_argmax(logits: Tensor, size: tuple[int, ...], align_corners: bool = False) -> Tensor:
    """Channel of the largest upsampled logit at each pixel, equal to ``upsample(logits, size).argmax(1)``.

    Args:
        logits: float (B, C, h, w).
        size: (H, W) of the result.
        align_corners: as in :func:`torch.nn.functional.interpolate`.

    Returns:
        int64 (B, H, W), channels 0..C-1.
    """
    results = []
    for image, possible in zip(logits, _possible_winners(logits), strict=True):
        channels = possible.nonzero().squeeze(1)
        _, winner = _running_max(image, channels, size, align_corners)
        results.append(winner)
    return torch.stack(results)


def upsampled_pseudo_labels(logits: Tensor, num_old: int, size: tuple[int, ...], tau: float,
                            align_corners: bool = False) -> Tensor:
    r"""Confident predictions of the old model for old classes (SSUL, Eq. 1, row 2).

    .. math:: \hat y_i = \arg\max_c s_{ic} \text{ where } \hat y_i \in C_{1:t-1} \wedge \sigma(s_{i \hat y_i}) > \tau

    Only classes that exceed :math:`\mathrm{logit}(\tau)` somewhere on the grid are upsampled; no other can be a
    pseudo-label, nor take one away from a class that exceeds it.

    Args:
        logits: float (B, 1 + num_old [+ 1], h, w), the old model's [background, old classes, (unknown)].
        num_old: number of old classes.
        size: (H, W) of the label map.
        tau: confidence threshold in (0, 1).
        align_corners: as in :func:`torch.nn.functional.interpolate`.

    Returns:
        int64 (B, H, W): a label 1..num_old, or 0 where there is no pseudo-label.
    """
    bound = math.log(tau / (1 - tau))
    survives = logits[:, 1:num_old + 1].amax(dim=(2, 3)) > bound - ROUNDING
    # Survivors first, ascending. One transfer for the whole batch: asking image by image would stop a GPU each time.
    order = survives.byte().argsort(dim=1, descending=True, stable=True) + 1
    counts = survives.sum(1).tolist()
    result = torch.zeros((len(logits), *size), dtype=torch.long, device=logits.device)
    for i, count in enumerate(counts):
        if not count:
            continue
        channels = order[i, :count]
        score, label = _running_max(logits[i], channels, size, align_corners)
        confident = score > bound
        # The dummies win ties as in argmax: background comes before every class, unknown after.
        confident &= score > upsample(logits[i:i + 1, :1], size, align_corners)[0, 0]
        if logits.shape[1] == num_old + 2:
            confident &= score >= upsample(logits[i:i + 1, -1:], size, align_corners)[0, 0]
        result[i] = label * confident
    return result


def upsampled_softmax_pseudo_labels(logits: Tensor, num_old: int, size: tuple[int, ...], tau: float,
                                    align_corners: bool = False) -> Tensor:
    """Pseudo-labels of a model trained by softmax (an ablation): its confidence is softmax's, over all channels.

    Arguments and result are those of :func:`upsampled_pseudo_labels`.
    """
    confidence, label = upsample(logits, size, align_corners).softmax(1).max(dim=1)
    return label * ((confidence > tau) & (label > 0) & (label <= num_old))


def _possible_winners(logits: Tensor) -> Tensor:
    """Mask (B, C) of the channels that can be the upsampled argmax somewhere: a bound per cell of the grid."""
    window = tuple(min(2, side) for side in logits.shape[2:])
    highest = F.max_pool2d(logits, window, stride=1)
    lowest = -F.max_pool2d(-logits, window, stride=1)
    beaten_by = lowest.amax(dim=1, keepdim=True)
    return (highest >= beaten_by - ROUNDING).flatten(2).any(2)


def _running_max(image: Tensor, channels: Tensor, size: tuple[int, ...], align_corners: bool
                 ) -> tuple[Tensor, Tensor]:
    """Largest upsampled logit (H, W) among ``channels`` of one image (C, h, w), and its channel; ties: the first."""
    score: Tensor | None = None
    winner: Tensor | None = None
    for part in channels.split(CHUNK):
        value, place = upsample(image[part].unsqueeze(0), size, align_corners)[0].max(dim=0)
        channel = part[place]
        if score is None or winner is None:
            score, winner = value, channel
        else:
            better = value > score
            score = torch.where(better, value, score)
            winner = torch.where(better, channel, winner)
    assert score is not None and winner is not None  # background is always asked for
    return score, winner
