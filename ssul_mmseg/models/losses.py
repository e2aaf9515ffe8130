"""Pixel losses over logit channels, as pure functions and as registered modules."""
import functools
from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..scenario import IGNORE
from .upsampling import upsample

NO_POSITIVE = -1
"""Target of a pixel whose class is none of the channels at hand: every channel is a negative there."""
IGNORED = -2
"""Target of a pixel that counts nowhere."""
# max(sigmoid, 1 - sigmoid) is at least 1/2: a product of so many is at least 2^-64, far from float32's least number.
FACTORS = 64


@functools.lru_cache(maxsize=16)
def upsampling_matrix(size: int, upsampled: int, align_corners: bool, device: torch.device) -> Tensor:
    """Matrix float32 (upsampled, size) that resizes one axis as :func:`.upsample` does."""
    axis = torch.eye(size, device=device).view(1, 1, size, size)
    return upsample(axis, (upsampled, size), align_corners)[0, 0].contiguous()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum of the products of two tensors of one shape."""
    return a.flatten() @ b.flatten()


class _UpsampledSigmoidBCE(torch.autograd.Function):
    """See :func:`upsampled_sigmoid_bce`."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, align_corners: bool) -> Tensor:
        """Value of the loss; its gradient on the grid is kept for the backward pass."""
        rows, columns = (
            upsampling_matrix(logits.shape[axis], target.shape[axis - 1], align_corners, logits.device)
            for axis in (2, 3))
        value, gradient = logits.new_zeros(()), torch.empty_like(logits)
        # On a CPU image by image: what is at full resolution stays in its caches.
        at_once = 1 if logits.device.type == 'cpu' else max(1, len(logits))
        for images, labels, grid in zip(*(x.split(at_once) for x in (logits, target, gradient)), strict=True):
            scores = rows @ images @ columns.T
            valid = (labels != IGNORED).float()
            slope = scores.sigmoid()
            # softplus(s) = relu(s) - log max(sigmoid(s), 1 - sigmoid(s)): one logarithm for many channels.
            for part in slope.split(FACTORS, dim=1):
                likeliest = functools.reduce(Tensor.mul_, (torch.maximum(p, 1 - p) for p in part.unbind(1)))
                value -= _dot(likeliest.log_(), valid)
            for channel in range(scores.shape[1]):
                score, positive = scores[:, channel], (labels == channel).float()
                value -= _dot(score, positive)
                value += _dot(score.relu_(), valid)
                slope[:, channel].mul_(valid).sub_(positive)
            grid.copy_(rows.T @ slope @ columns)
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of the logits."""
        gradient, = ctx.saved_tensors
        return gradient * outer, None, None


def upsampled_sigmoid_bce(logits: Tensor, target: Tensor, align_corners: bool = False) -> Tensor:
    r"""Binary cross-entropy of every upsampled channel, summed over channels and valid pixels, without one-hot tensor.

    .. math:: \sum_i \sum_c \mathrm{BCE}(\sigma(s_{ic}), 1[c = y_i]) = \sum_i \big( \sum_c \mathrm{softplus}(s_{ic})
              - s_{i y_i} \big)

    (SSUL, section 3.4; the identity follows from -log sigmoid(s) = softplus(s) - s.) An image's scores are
    :math:`S = A X B^\top`, bilinear upsampling as two matrices; the gradient of the sum is
    :math:`\partial L / \partial X = A^\top (\sigma(S) - Y) B`, Y one-hot, both 0 at ignored pixels. It is made in the
    forward pass, while the scores are at hand, so that nothing at full resolution is kept.

    Args:
        logits: float32 (B, C, h, w), on the grid of the features.
        target: integer (B, H, W), a channel 0..C-1, :data:`NO_POSITIVE` or :data:`IGNORED`.
        align_corners: as in :func:`torch.nn.functional.interpolate`.

    Returns:
        The sum, a scalar in nats.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return _UpsampledSigmoidBCE.apply(logits, target, align_corners)


def pixel_ce(logits: Tensor, target: Tensor) -> Tensor:
    """Softmax cross-entropy of every pixel, 0 where the target is ignored.

    Args:
        logits: float (B, C, H, W), over all channels.
        target: int64 (B, H, W), a channel 0..C-1 or :data:`IGNORED`.

    Returns:
        float (B, H, W), nats.
    """
    return F.cross_entropy(logits, target, ignore_index=IGNORED, reduction='none')


def softmax_ce(logits: Tensor, target: Tensor) -> Tensor:
    r"""Softmax cross-entropy summed over valid pixels: :math:`\sum_i -\log \mathrm{softmax}(s_i)_{y_i}`.

    Args:
        logits: float (B, C, H, W), over all channels.
        target: int64 (B, H, W), a channel 0..C-1 or :data:`IGNORED`.

    Returns:
        The sum, a scalar in nats.
    """
    return F.cross_entropy(logits, target, ignore_index=IGNORED, reduction='sum')


class GridLoss(nn.Module, ABC):
    """A loss that mmseg can call, and that takes logits on the grid of the features where that is cheaper.

    A subclass gives :meth:`grid_sum`, and :meth:`pixel_losses` for pixel samplers; mmseg's protocol follows from both.
    """

    loss_name = ''
    """Its key among the losses."""
    use_sigmoid = False
    """Whether each channel is judged alone, so that channels without a gradient may be left out."""

    @abstractmethod
    def grid_sum(self, logits: Tensor, target: Tensor, align_corners: bool = False) -> Tensor:
        """Sum over the valid pixels, a scalar in nats.

        Args:
            logits: float (B, C, h, w), on the grid of the features.
            target: int64 (B, H, W), a channel 0..C-1, :data:`NO_POSITIVE` or :data:`IGNORED`.
            align_corners: as in :func:`torch.nn.functional.interpolate`.
        """

    @abstractmethod
    def pixel_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of every pixel, of which :meth:`grid_sum` is the sum.

        Args:
            logits: float (B, C, H, W), at the target's size.
            target: int64 (B, H, W), a channel 0..C-1, :data:`NO_POSITIVE` or :data:`IGNORED`.

        Returns:
            float (B, H, W) in nats, 0 where pixels are ignored.
        """

    def forward(self, cls_score: Tensor, label: Tensor, weight: Tensor | None = None, ignore_index: int = IGNORE,
                reduction_override: str | None = None) -> Tensor:
        """Mean over the valid pixels of this process, as mmseg asks for it.

        Args:
            cls_score: float (B, C, H, W), logits.
            label: int64 (B, H, W), a channel or ``ignore_index``.
            weight: float (B, H, W), what a pixel sampler multiplies each pixel's loss by; None: 1 everywhere.
            ignore_index: label of the pixels that do not count.
            reduction_override: 'none' for the loss of every pixel, by which a sampler looks for hard ones.

        Returns:
            A scalar in nats per pixel, or float (B, H, W) without reduction.
        """
        logits, target = cls_score.float(), label.masked_fill(label == ignore_index, IGNORED)
        if reduction_override == 'none':
            return self.pixel_losses(logits, target)
        count = (target != IGNORED).sum().clamp(min=1)
        if weight is None:
            return self.grid_sum(logits, target) / count
        return (self.pixel_losses(logits, target) * weight).sum() / count


@MODELS.register_module()
class SigmoidBCELoss(GridLoss):
    """SSUL's loss, see :func:`upsampled_sigmoid_bce`."""

    loss_name = 'loss_bce'
    use_sigmoid = True

    def grid_sum(self, logits: Tensor, target: Tensor, align_corners: bool = False) -> Tensor:
        """Return :func:`upsampled_sigmoid_bce`."""
        return upsampled_sigmoid_bce(logits, target, align_corners)

    def pixel_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum of the channels' losses in each pixel: softplus of all scores, less the score of the true channel."""
        score = logits.gather(1, target.clamp(min=0).unsqueeze(1)).squeeze(1)
        return (F.softplus(logits).sum(1) - score * (target >= 0)) * (target != IGNORED)


@MODELS.register_module()
class SoftmaxCELoss(GridLoss):
    """The usual segmentation loss, see :func:`softmax_ce`; it needs every channel."""

    loss_name = 'loss_ce'

    def grid_sum(self, logits: Tensor, target: Tensor, align_corners: bool = False) -> Tensor:
        """Return :func:`softmax_ce` of logits (B, C, h, w), upsampled to the target's size."""
        return softmax_ce(upsample(logits, target.shape[1:], align_corners), target)

    def pixel_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of each pixel."""
        return F.cross_entropy(logits, target, ignore_index=IGNORED, reduction='none')


def channel_table(num_channels: int, kept: list[int], device: torch.device) -> Tensor:
    """Table from a target over all channels to one over the kept channels.

    Args:
        num_channels: number of all channels.
        kept: the channels kept, ascending.
        device: where the table lives.

    Returns:
        int64 (num_channels + 2,), for :func:`lookup` with ``target - IGNORED``; the two negative targets, which come
        first, stay as they are.
    """
    table = torch.full((num_channels + 2, ), NO_POSITIVE, dtype=torch.long, device=device)
    table[torch.tensor(kept, dtype=torch.long, device=device) - IGNORED] = torch.arange(len(kept), device=device)
    table[0] = IGNORED
    return table


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """``table[index]`` for an integer index of any shape, none negative: six times faster on a CPU."""
    return table.index_select(0, index.flatten().int()).view(index.shape)
