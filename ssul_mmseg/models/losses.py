"""Pixel losses over logit channels, as pure functions and as registered modules."""
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

NO_POSITIVE = -1
"""Target of a pixel whose class is none of the channels at hand: every channel is a negative there."""
IGNORED = -2
"""Target of a pixel that counts nowhere."""


def sigmoid_bce(logits: Tensor, target: Tensor) -> Tensor:
    r"""Binary cross-entropy of every channel, summed over channels and valid pixels, without a one-hot tensor.

    .. math:: \sum_i \sum_c \mathrm{BCE}(\sigma(s_{ic}), 1[c = y_i]) = \sum_i \big( \sum_c \mathrm{softplus}(s_{ic})
              - s_{i y_i} \big)

    (SSUL, section 3.4; the identity follows from -log sigmoid(s) = softplus(s) - s.)

    Args:
        logits: float (B, C, H, W), the scores s.
        target: int64 (B, H, W), a channel 0..C-1, :data:`NO_POSITIVE` or :data:`IGNORED`.

    Returns:
        The sum, a scalar in nats.
    """
    valid = target != IGNORED
    positive = logits.gather(1, target.clamp(min=0).unsqueeze(1)).squeeze(1) * (target >= 0)
    per_pixel = F.softplus(logits).sum(1) - positive
    return (per_pixel * valid).sum()


def softmax_ce(logits: Tensor, target: Tensor) -> Tensor:
    r"""Softmax cross-entropy summed over valid pixels: :math:`\sum_i -\log \mathrm{softmax}(s_i)_{y_i}`.

    Args:
        logits: float (B, C, H, W), over all channels.
        target: int64 (B, H, W), a channel 0..C-1 or :data:`IGNORED`.

    Returns:
        The sum, a scalar in nats.
    """
    return F.cross_entropy(logits, target, ignore_index=IGNORED, reduction='sum')


@MODELS.register_module()
class SigmoidBCELoss(nn.Module):
    """SSUL's loss, see :func:`sigmoid_bce`; its channels are independent, so frozen ones may be left out."""

    loss_name = 'loss_bce'
    independent_channels = True

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return :func:`sigmoid_bce`."""
        return sigmoid_bce(logits, target)


@MODELS.register_module()
class SoftmaxCELoss(nn.Module):
    """The usual segmentation loss, see :func:`softmax_ce`; it needs every channel."""

    loss_name = 'loss_ce'
    independent_channels = False

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return :func:`softmax_ce`."""
        return softmax_ce(logits, target)


def channel_table(num_channels: int, kept: list[int], device: torch.device) -> Tensor:
    """Table from a target over all channels to one over the kept channels.

    Args:
        num_channels: number of all channels.
        kept: the channels kept, ascending.
        device: where the table lives.

    Returns:
        int64 (num_channels + 2,), indexed with a target; the two negative targets index from its end and stay as
        they are.
    """
    table = torch.full((num_channels + 2, ), NO_POSITIVE, dtype=torch.long, device=device)
    table[torch.tensor(kept, dtype=torch.long, device=device)] = torch.arange(len(kept), device=device)
    table[IGNORED] = IGNORED
    return table
