"""SSUL and SSUL-M: unknown class, frozen network, pseudo-labels, weight transfer (NeurIPS 2021)."""
import copy
from collections.abc import Sequence

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..errors import InputError
from ..models.heads import classify
from ..models.segmentors import IncrementalSegmentor
from ..models.upsampling import upsampled_pseudo_labels, upsampled_softmax_pseudo_labels
from ..scenario import BACKGROUND, UNKNOWN

WEIGHT_TRANSFER = ('unknown', 'background', 'random')


@MODELS.register_module()
class SSUL(IncrementalSegmentor):
    """SSUL; with an exemplar memory in the config it is SSUL-M.

    Args:
        backbone: any mmseg backbone.
        decode_head: an ``IncrementalASPPHead``.
        neck: any mmseg neck.
        data_preprocessor: mmseg's ``SegDataPreProcessor``.
        merge_unknown: see :class:`IncrementalSegmentor`.
        channels_last: see :class:`IncrementalSegmentor`.
        freeze: from task 1 on, learn only background, unknown and the new classes (section 3.4).
        tau: confidence above which the old model's prediction becomes a label (Eq. 1), in (0, 1); None: no
            pseudo-labels.
        weight_transfer: where the new classes' filters start from: 'unknown' (the paper), 'background' or 'random'
            (Table 4).

    Raises:
        InputError: ``tau`` is no probability, or ``weight_transfer`` is none of the three, or asks for an unknown
            channel that the head lacks.
    """

    def __init__(self,
                 backbone: dict,
                 decode_head: dict,
                 neck: dict | None = None,
                 data_preprocessor: dict | None = None,
                 merge_unknown: str = 'labels',
                 channels_last: bool = True,
                 freeze: bool = True,
                 tau: float | None = 0.7,
                 weight_transfer: str = 'unknown') -> None:
        super().__init__(backbone, decode_head, neck, data_preprocessor, merge_unknown, channels_last)
        if tau is not None and not 0 < tau < 1:
            raise InputError(f'model.tau is {tau}; it is a probability between 0 and 1, 0.7 in the paper')
        if weight_transfer not in WEIGHT_TRANSFER:
            raise InputError(
                f'model.weight_transfer is {weight_transfer!r}; choose one of {", ".join(WEIGHT_TRANSFER)}')
        if weight_transfer == 'unknown' and 'unknown' not in self.decode_head.names:
            raise InputError("model.weight_transfer is 'unknown', which a head without unknown does not have; set "
                             'model.weight_transfer=background or random, or model.decode_head.unknown=True')
        self.freezes_later = freeze
        self.freezes = freeze and self.task > 0
        self.tau = tau
        self.weight_transfer = weight_transfer
        # Plain containers: what the old model adds must stay out of the state dict, the optimizer and any wrapper.
        self._old_dummies: dict[str, nn.Module] = {}
        self._old_network: list[SSUL] = []

    @property
    def trunk_stays(self) -> bool:
        """Whether the trunk is frozen from task 1 on."""
        return self.freezes_later

    def frozen_modules(self) -> list[nn.Module]:
        """From task 1 on: backbone, neck, ASPP and the old classes' classifiers."""
        if not self.freezes:
            return []
        head = self.decode_head
        return [
            self.backbone, *([self.neck] if self.with_neck else []), head.image_pool, head.aspp_modules,
            head.bottleneck, *(head.classifiers[f'task_{t}'] for t in range(self.task))
        ]

    def start_task(self, old_state: dict[str, Tensor]) -> None:
        """Take over the old weights, keep what makes the old model, then transfer weights to the new classes."""
        super().start_task(old_state)
        if self.tau is not None:
            self._keep_old_model()
        self.decode_head.transfer_weights(None if self.weight_transfer == 'random' else self.weight_transfer)

    def _keep_old_model(self) -> None:
        """Keep a frozen copy of what this task changes.

        With a frozen trunk the old model differs from this one in background and unknown only: two filters stand in
        for a second network. Without freezing the old model is a network of its own.
        """
        if self.freezes:
            self._old_dummies = {
                name: copy.deepcopy(self.decode_head.classifiers[name]).requires_grad_(False).eval()
                for name in ('background', 'unknown') if name in self.decode_head.names
            }
        else:
            self._old_network = [copy.deepcopy(self).requires_grad_(False).eval()]

    @torch.no_grad()
    def old_logits(self, inputs: Tensor, features: Tensor) -> Tensor:
        """Logits (B, 1 + old classes [+ 1], h, w) of the old model for images (B, 3, H, W) and their features."""
        old_tasks = [f'task_{t}' for t in range(self.task)]
        if self._old_network:
            old = self._old_network[0]
            return old.decode_head.classify(old.trunk(inputs), ['background', *old_tasks, 'unknown'])
        classifiers = {**self.decode_head.classifiers, **self._old_dummies}
        order = ['background', *old_tasks, *(['unknown'] if 'unknown' in self._old_dummies else [])]
        return classify([classifiers[name] for name in order], features)

    @torch.no_grad()
    def targets(self, inputs: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Eq. 1: the labels, and where they show no class, the old model's confident predictions of old classes."""
        target = super().targets(inputs, features, labels)
        if self.task == 0 or self.tau is None:
            return target
        head = self.decode_head
        pseudo_labels = (upsampled_pseudo_labels if head.loss_decode.independent_channels else
                         upsampled_softmax_pseudo_labels)
        pseudo = pseudo_labels(
            self.old_logits(inputs, features).float(), head.num_seen - len(head.channels_of([f'task_{self.task}'])),
            labels.shape[1:], self.tau, head.align_corners)
        unlabelled = (labels == BACKGROUND) | (labels == UNKNOWN)
        return torch.where(unlabelled & (pseudo > 0), pseudo, target)

    def learning_classifiers(self) -> Sequence[str]:
        """Only those with a gradient, where the loss treats channels one by one: the same update for less."""
        if self.freezes and self.decode_head.loss_decode.independent_channels:
            return [name for name in ('background', f'task_{self.task}', 'unknown') if name in self.decode_head.names]
        return super().learning_classifiers()
