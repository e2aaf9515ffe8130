"""LwF-MC: LwF with a sigmoid for each class (as in iCaRL, CVPR 2017)."""
from typing import Any

import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor

from ..models.distillation import DistillingSegmentor, check_head, check_weight
from ..models.losses import upsampled_sigmoid_bce
from ..models.segmentors import Batch


@MODELS.register_module()
class LwFMC(DistillingSegmentor):
    r"""LwF for many classes (Rebuffi et al., CVPR 2017, Algorithm 3 without exemplars), as the code of MiB computes it.

    .. math:: L = \frac{1}{N} \sum_i \sum_c \mathrm{BCE}(s_{ic}, 1[c = y_i])
              + \frac{\lambda}{N} \sum_i \sum_{c < C} \mathrm{BCE}(s_{ic}, \sigma(s^{old}_{ic}))

    over N pixels and C old channels, background included. The whole network learns; new classes start at random.

    Published: lambda 10 (the code of MiB, which writes the second term as 10 C times a mean over C), and MiB's
    schedule.

    Paper and published code: in the paper, of images, an old class's target is the old network's output instead of its
    label; the code of MiB has both terms, over **all** pixels of a batch, ignored ones counting as 0 in the first. This
    is the code's.

    Args:
        weight: lambda, at least 0.
        segmentor: the arguments of :class:`.IncrementalSegmentor`; its head has no unknown channel and sigmoids.

    Raises:
        InputError: ``weight`` is negative, or the head has an unknown channel or a softmax.
    """

    def __init__(self, *, weight: float = 10., **segmentor: Any) -> None:
        super().__init__(**segmentor)
        check_head(self.decode_head, 'LwF-MC', softmax=False)
        check_weight('weight', weight, 10)
        self.weight = weight

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Both terms; all processes have as many pixels, so their means are right."""
        logits = self.logits(batch)
        total = upsampled_sigmoid_bce(logits, batch.targets, self.decode_head.align_corners)
        losses = {'loss_bce': total / batch.targets.numel(), **self.auxiliary_losses(batch)}
        if batch.old:
            old = self.at_label_size(batch.old['logits'], batch)
            kept = self.at_label_size(logits[:, :old.shape[1]], batch)
            losses['loss_kd'] = self.weight * sigmoid_distillation(kept, old).mean()
        return losses


def sigmoid_distillation(logits: Tensor, old_logits: Tensor) -> Tensor:
    r"""Binary cross-entropy with the old network's probabilities: :math:`\sum_c \mathrm{BCE}(s_c, \sigma(s^{old}_c))`.

    Args:
        logits: float (B, C, H, W), of the old channels.
        old_logits: float (B, C, H, W).

    Returns:
        float (B, H, W), nats.
    """
    return F.binary_cross_entropy_with_logits(logits, old_logits.sigmoid(), reduction='none').sum(1)
