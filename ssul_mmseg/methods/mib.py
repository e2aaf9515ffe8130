"""MiB: background of a task may hold old classes, background of the old network may hold new ones (CVPR 2020)."""
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ..models.distillation import DistillingSegmentor, check_head, check_weight, start_balanced
from ..models.losses import IGNORED, pixel_ce
from ..models.segmentors import Batch, OldTask


@MODELS.register_module()
class MiB(DistillingSegmentor):
    r"""Modeling the Background (Cermelli et al., CVPR 2020).

    .. math:: L = \mathrm{UnCE} + \lambda \, \mathrm{UnKD}

    :func:`unbiased_ce` is Eq. 5-6, :func:`unbiased_kd` Eq. 7-8, and new classifiers start as the background's
    (Eq. 9-10, :func:`~ssul_mmseg.models.distillation.start_balanced`). The whole network learns.

    Published: lambda 10, but 100 for VOC 15-1; SGD with Nesterov momentum 0.9, weight decay 1e-4, learning rate 0.01 in
    task 0 and 0.001 later, poly 0.9; 24 images of 512 x 512; 30 epochs on VOC, 60 on ADE20K.

    Paper and published code: the code averages both losses over **all** pixels of a batch, ignored ones counting as 0
    in UnCE, and divides UnKD by the number of old channels. So does this. Neither has an exemplar memory; with one, an
    old class that an exemplar labels counts as background, as UnCE says.

    Args:
        weight: lambda, at least 0.
        segmentor: the arguments of :class:`.IncrementalSegmentor`; its head has no unknown channel and a softmax.

    Raises:
        InputError: ``weight`` is negative, or the head has an unknown channel or sigmoids.
    """

    def __init__(self, *, weight: float = 10., **segmentor: Any) -> None:
        super().__init__(**segmentor)
        check_head(self.decode_head, 'MiB')
        check_weight('weight', weight, 10)
        self.weight = weight

    def start_task(self, old: OldTask) -> None:
        """Take over the old weights, keep the old network, and start the new classes as parts of the background."""
        super().start_task(old)
        start_balanced(self.decode_head)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """UnCE and, from task 1 on, UnKD; every process has as many pixels as the others, so their means are one."""
        logits = self.at_label_size(self.logits(batch), batch)
        unce = unbiased_ce(logits, batch.targets, 1 + self.decode_head.num_old)
        losses = {'loss_unce': unce.mean(), **self.auxiliary_losses(batch)}
        if batch.old:
            old = self.at_label_size(batch.old['logits'], batch)
            losses['loss_unkd'] = self.weight * unbiased_kd(logits, old).mean()
        return losses


def unbiased_ce(logits: Tensor, target: Tensor, num_old_channels: int) -> Tensor:
    r"""Cross-entropy in which a pixel labelled background may be background or any old class.

    .. math:: p_b = \frac{\sum_{c < C} e^{s_c}}{\sum_c e^{s_c}}, \quad p_k = \frac{e^{s_k}}{\sum_c e^{s_c}}
              \text{ for new } k

    With C = 1, in task 0, it is the usual cross-entropy.

    Args:
        logits: float (B, channels, H, W), [background, old classes, new classes].
        target: int64 (B, H, W), a channel or ``losses.IGNORED``; old classes count as background.
        num_old_channels: C, background included.

    Returns:
        float (B, H, W), nats; 0 where the target is ignored.

    Example:
        A pixel labelled background: the share of background and of the old class, of three channels.

        >>> logits = torch.tensor([1., 2., 0.]).view(1, 3, 1, 1)
        >>> round(unbiased_ce(logits, torch.tensor([[[0]]]), num_old_channels=2).item(), 6)
        0.094344
    """
    background = logits[:, :num_old_channels].logsumexp(1, keepdim=True)
    merged = torch.cat([background, logits[:, num_old_channels:]], dim=1)
    # The old channels are summed up already: the softmax over what is merged is that over all channels.
    among = (target - num_old_channels + 1).clamp(min=0).masked_fill(target == IGNORED, IGNORED)
    return pixel_ce(merged, among)


def unbiased_kd(logits: Tensor, old_logits: Tensor) -> Tensor:
    r"""Distillation in which the old network's background may be background or any new class.

    .. math:: -\frac{1}{C} \sum_{c < C} q_c \log p_c, \quad q = \mathrm{softmax}(s^{old}), \quad
              p_0 = \frac{e^{s_0} + \sum_{k \geq C} e^{s_k}}{\sum_c e^{s_c}}, \quad p_c = \frac{e^{s_c}}{\sum_c e^{s_c}}

    Args:
        logits: float (B, C + new, H, W), [background, old classes, new classes].
        old_logits: float (B, C, H, W).

    Returns:
        float (B, H, W), nats.
    """
    num_old = old_logits.shape[1]
    background = torch.cat([logits[:, :1], logits[:, num_old:]], dim=1).logsumexp(1, keepdim=True)
    merged = torch.cat([background, logits[:, 1:num_old]], dim=1)
    return -(old_logits.softmax(1) * merged.log_softmax(1)).mean(1)
