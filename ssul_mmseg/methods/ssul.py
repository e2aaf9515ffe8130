"""SSUL and SSUL-M: unknown class, frozen network, pseudo-labels, weight transfer (NeurIPS 2021)."""
from collections.abc import Sequence
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..errors import InputError
from ..models.old_model import OldModel
from ..models.segmentors import Batch, IncrementalSegmentor, OldTask
from ..models.upsampling import upsampled_pseudo_labels, upsampled_softmax_pseudo_labels
from ..scenario import BACKGROUND, UNKNOWN

WEIGHT_TRANSFER = ('unknown', 'background', 'random')


@MODELS.register_module()
class SSUL(IncrementalSegmentor):
    """SSUL; with an exemplar memory in the config it is SSUL-M.

    Args:
        freeze: from task 1 on, learn only background, unknown and the new classes (section 3.4).
        tau: confidence above which the old model's prediction becomes a label (Eq. 1), in (0, 1); None: no
            pseudo-labels.
        weight_transfer: where the new classes' filters start from: 'unknown' (the paper), 'background' or 'random'
            (Table 4).
        segmentor: the arguments of :class:`IncrementalSegmentor`.

    Raises:
        InputError: ``tau`` is no probability, or ``weight_transfer`` is none of the three, or asks for an unknown
            channel that the head lacks.
    """

    def __init__(self,
                 *,
                 freeze: bool = True,
                 tau: float | None = 0.7,
                 weight_transfer: str = 'unknown',
                 **segmentor: Any) -> None:
        super().__init__(**segmentor)
        if tau is not None and not 0 < tau < 1:
            raise InputError(f'model.tau is {tau}; it is a probability between 0 and 1, 0.7 in the paper')
        if weight_transfer not in WEIGHT_TRANSFER:
            raise InputError(
                f'model.weight_transfer is {weight_transfer!r}; choose one of {", ".join(WEIGHT_TRANSFER)}')
        if weight_transfer == 'unknown' and not self.decode_head.has_unknown:
            raise InputError("model.weight_transfer is 'unknown', which a head without unknown does not have; set "
                             'model.weight_transfer=background or random, or model.decode_head.unknown=True')
        self.freezes_later = freeze
        self.freezes = freeze and self.task > 0
        self.tau = tau
        self.weight_transfer = weight_transfer

    @property
    def trunk_fixed(self) -> bool:
        """Whether the trunk is frozen from task 1 on."""
        return self.freezes_later

    def frozen_modules(self) -> list[nn.Module]:
        """From task 1 on: the trunk, the old classes' classifiers, and the BatchNorm of those that learn.

        The authors' ``--bn_freeze`` holds statistics, scale and shift of every BatchNorm still; the paper's classifiers
        have none.
        """
        if not self.freezes:
            return super().frozen_modules()
        head = self.decode_head
        old = [head.classifiers[name] for name in head.old_names]
        return [*self.trunk_modules(), *self.heads[1:], *old, *head.classifier_norms()]

    def start_task(self, old: OldTask) -> None:
        """Take over the old weights, keep what makes the old model, then transfer weights to the new classes."""
        super().start_task(old)
        if self.tau is not None:
            self.old_model = OldModel(self)
        self.decode_head.transfer_weights(None if self.weight_transfer == 'random' else self.weight_transfer)

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """Eq. 1: the labels, and where they show no class, the old model's confident predictions of old classes."""
        target = super().targets(batch)
        if self.task == 0 or self.old_model is None or self.tau is None:
            return target
        head = self.decode_head
        pseudo_labels = upsampled_pseudo_labels if head.independent_channels else upsampled_softmax_pseudo_labels
        logits = self.old_model.logits(batch).float()
        pseudo = pseudo_labels(logits, head.num_old, batch.labels.shape[1:], self.tau, head.align_corners)
        unlabelled = (batch.labels == BACKGROUND) | (batch.labels == UNKNOWN)
        return torch.where(unlabelled & (pseudo > 0), pseudo, target)

    def learning_classifiers(self) -> Sequence[str]:
        """Only those with a gradient, where the loss treats channels one by one: the same update for less."""
        head = self.decode_head
        if self.freezes and head.independent_channels:
            return [name for name in ('background', head.new_name, 'unknown') if name in head.names]
        return super().learning_classifiers()
