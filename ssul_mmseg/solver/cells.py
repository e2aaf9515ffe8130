"""Make cells of the feature grid, each with the labels of the pixels around it."""
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from ..models.losses import IGNORED, upsampling_matrix

# Cells that a sum treats at a time: bounds its memory, and keeps what it needs in a processor's caches.
AT_ONCE = 8192
NOT_FINITE = ('the features hold NaN or infinite values, so no filter can be solved; check the weights that the task '
              'starts from, or run without mixed precision')


@dataclass(frozen=True)
class Cells:
    """Cells of some images.

    Args:
        features: float16 or float32 (N, d), of the frozen trunk.
        targets: float32 (N, K), the share of each channel among the pixels of a cell, in [0, 1].
        weights: float32 (N,), the valid pixels of a cell in units of a cell's pixels; at least 0.
    """

    features: Tensor
    targets: Tensor
    weights: Tensor


class Joined:
    """Blocks of cells one after the other, as often as they are asked for.

    Args:
        parts: iterables of cells, each with the factor that its weights are multiplied by.
    """

    def __init__(self, *parts: tuple[Iterable[Cells], float]) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[Cells]:
        return chain.from_iterable(map(_scale, *zip(*self.parts, strict=True)))


def _scale(blocks: Iterable[Cells], factor: float) -> Iterator[Cells]:
    """Blocks of cells with their weights multiplied."""
    return (replace(cells, weights=cells.weights * factor) for cells in blocks)


class Columns:
    """Blocks of cells with some of their targets' columns.

    Args:
        blocks: the cells.
        columns: the columns kept.
    """

    def __init__(self, blocks: Iterable[Cells], columns: Sequence[int]) -> None:
        self.blocks, self.columns = blocks, list(columns)

    def __iter__(self) -> Iterator[Cells]:
        return (replace(cells, targets=cells.targets[:, self.columns]) for cells in self.blocks)


def pixels(blocks: Iterable[Cells], columns: int) -> Tensor:
    """Pixels of each column of the targets, float64 (columns,), in units of a cell's, over all processes."""
    counts = torch.zeros(columns, dtype=torch.double)
    for cells in blocks:
        counts += (cells.weights @ cells.targets).double().cpu()
    return add_over_processes(counts)[0]


def soft_targets(target: Tensor, num_channels: int, size: tuple[int, int],
                 align_corners: bool = False) -> tuple[Tensor, Tensor]:
    r"""Share of each channel among the pixels around each cell, and how many valid pixels these are.

    .. math:: t_k = A^\top Y_k B \,/\, A^\top V B, \qquad w = \tfrac{h w}{H W} A^\top V B

    :math:`S = A X B^\top` is the bilinear upsampling of a grid X, :math:`Y_k` is 1 where the target is k, V is 1 at
    valid pixels. A pixel counts in each cell with the weight that the cell has in the pixel's score. So
    :math:`\sum w_i t_{ik} z_{ik}` equals the paper's :math:`\sum_p [y_p = k] s_{pk}` exactly, and as softplus is
    convex, the loss over cells is at least the paper's loss over pixels (Jensen's inequality).

    Args:
        target: integer (B, H, W), a channel 0..K-1, ``losses.NO_POSITIVE`` or ``losses.IGNORED``.
        num_channels: K.
        size: (h, w) of the feature grid.
        align_corners: as in :func:`torch.nn.functional.interpolate`.

    Returns:
        Shares float32 (B, K, h, w) in [0, 1], 0 where no pixel is valid; weights float32 (B, h, w), whose mean over a
        map without ignored pixels is 1.
    """
    rows, columns = (upsampling_matrix(side, upsampled, align_corners, target.device)
                     for side, upsampled in zip(size, target.shape[1:], strict=True))

    def gather(mask: Tensor) -> Tensor:
        return rows.T @ mask.float() @ columns

    valid = gather(target != IGNORED)
    shares = torch.stack([gather(target == channel) for channel in range(num_channels)], dim=1)
    shares /= valid.clamp(min=torch.finfo(valid.dtype).tiny).unsqueeze(1)
    return shares.clamp_(0, 1), valid * (size[0] * size[1] / target[0].numel())


def cells_of(features: Tensor, shares: Tensor, weights: Tensor) -> Cells:
    """Cells of feature maps (B, d, h, w) with :func:`soft_targets`' shares and weights, without those of weight 0."""
    counts = weights.flatten() > 0
    return Cells(
        features.movedim(1, -1).flatten(0, 2)[counts],
        shares.movedim(1, -1).flatten(0, 2)[counts],
        weights.flatten()[counts])


def in_chunks(blocks: Iterable[Cells]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Float32 features with a column of ones (n, d + 1), targets (n, K) and weights (n,) of at most AT_ONCE cells."""
    for block in blocks:
        parts = (x.split(AT_ONCE) for x in (block.features, block.targets, block.weights))
        for features, targets, weights in zip(*parts, strict=True):
            inputs = torch.ones(len(features), features.shape[1] + 1, device=features.device)
            inputs[:, :-1] = features
            yield inputs, targets, weights


def add_over_processes(*sums: Tensor) -> list[Tensor]:
    """Float64 sums of this process, added up over all processes in one message."""
    flat = torch.cat([x.flatten() for x in sums])
    all_reduce(flat)
    parts = flat.split([x.numel() for x in sums])
    return [part.view_as(x) for part, x in zip(parts, sums, strict=True)]
