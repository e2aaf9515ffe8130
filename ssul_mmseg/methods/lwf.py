"""LwF: the new network answers on old classes as the old one did (ECCV 2016)."""
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor

from ..models.distillation import DistillingSegmentor, check_head, check_weight, old_class_distillation
from ..models.losses import pixel_ce
from ..models.segmentors import Batch


@MODELS.register_module()
class LwF(DistillingSegmentor):
    r"""Learning without Forgetting (Li and Hoiem, ECCV 2016), pixel by pixel, as the code of MiB computes it.

    .. math:: L = L_{CE} + \lambda L_{KD}

    with the distillation :func:`~ssul_mmseg.models.distillation.old_class_distillation` (Eq. 1-3). The whole network
    learns; new classes start at random.

    Published: lambda 100 (the code of MiB), and MiB's schedule.

    Paper and published code: the paper classifies images, at temperature 2 and with lambda 1, and warms the new filters
    up; the code has temperature 1, no warm-up, the mean over old channels, and averages over **all** pixels of a batch,
    ignored ones counting as 0 in the cross-entropy. This is the code's.

    Args:
        weight: lambda, at least 0.
        segmentor: the arguments of :class:`.IncrementalSegmentor`; its head has no unknown channel and a softmax.

    Raises:
        InputError: ``weight`` is negative, or the head has an unknown channel or sigmoids.
    """

    def __init__(self, *, weight: float = 100., **segmentor: Any) -> None:
        super().__init__(**segmentor)
        check_head(self.decode_head, 'LwF')
        check_weight('weight', weight, 100)
        self.weight = weight

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy and, from task 1 on, distillation; all processes have as many pixels, so means are right."""
        logits = self.at_label_size(self.logits(batch), batch)
        losses = {'loss_ce': pixel_ce(logits, batch.targets).mean(), **self.auxiliary_losses(batch)}
        if batch.old:
            old = self.at_label_size(batch.old['logits'], batch)
            losses['loss_kd'] = self.weight * old_class_distillation(logits, old).mean()
        return losses
