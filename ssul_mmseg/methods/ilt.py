"""ILT: distillation of outputs and of the backbone's features (ICCV workshops 2019)."""
from typing import Any

import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor

from ..models.distillation import DistillingSegmentor, check_head, check_weight, old_class_distillation
from ..models.losses import pixel_ce
from ..models.segmentors import Batch


@MODELS.register_module()
class ILT(DistillingSegmentor):
    r"""Incremental Learning Techniques for segmentation (Michieli and Zanuttigh, ICCVW 2019), as MiB's code has it.

    .. math:: L = L_{CE} + \lambda_D L_{KD} + \lambda_E \, \mathrm{mean}\big( (E(x) - E^{old}(x))^2 \big)

    with the distillation of logits :func:`~ssul_mmseg.models.distillation.old_class_distillation` (the paper's
    :math:`L'_D`) and that of the backbone's last map E (:math:`L''_D`), the mean over all its elements. The whole
    network learns; new classes start at random.

    Published: both weights 100 (the code of MiB), and MiB's schedule.

    Paper and published code: the paper takes one of the two distillations at a time, searches its weight, and may
    freeze the encoder; the code of MiB adds both, and averages the first two terms over **all** pixels of a batch,
    ignored ones counting as 0 in the cross-entropy. This is the code's.

    Args:
        weight: of the distillation of logits, at least 0.
        feature_weight: of the distillation of features, at least 0.
        segmentor: the arguments of :class:`.IncrementalSegmentor`; its head has no unknown channel and a softmax.

    Raises:
        InputError: a weight is negative, or the head has an unknown channel or sigmoids.
    """

    def __init__(self, *, weight: float = 100., feature_weight: float = 100., **segmentor: Any) -> None:
        super().__init__(**segmentor)
        check_head(self.decode_head, 'ILT')
        check_weight('weight', weight, 100)
        check_weight('feature_weight', feature_weight, 100)
        self.weight = weight
        self.feature_weight = feature_weight

    def ask_old_model(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the old network, and the last map of its backbone."""
        if self.old_model is None:
            return {}
        maps, features = self.old_model.outputs(batch)
        return {'logits': self.old_model.logits(batch, features), 'map': maps[-1]}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy and, from task 1 on, both distillations; all processes have as many pixels and elements."""
        logits = self.at_label_size(self.logits(batch), batch)
        losses = {'loss_ce': pixel_ce(logits, batch.targets).mean(), **self.auxiliary_losses(batch)}
        if batch.old:
            old = self.at_label_size(batch.old['logits'], batch)
            losses['loss_kd'] = self.weight * old_class_distillation(logits, old).mean()
            losses['loss_features'] = self.feature_weight * F.mse_loss(batch.maps[-1].float(), batch.old['map'].float())
        return losses
