"""The network of task t-1, for pseudo-labels and distillation."""
import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .heads import classify

if TYPE_CHECKING:
    from .segmentors import Batch, IncrementalSegmentor


class OldModel:
    """The frozen network f^{t-1} beside the one that learns; make it when the old weights are in the new network.

    Where the trunk is frozen, f^{t-1} differs from f^t in background and unknown only: frozen copies of these two
    classifiers stand in for a second network. Otherwise it is a network of its own; a frozen backbone is shared.

    A plain object: what it holds stays out of the new network's state dict, optimizer and distributed wrapper.

    Args:
        model: the network of the task to be learned, with the weights of the task before.
    """

    def __init__(self, model: 'IncrementalSegmentor') -> None:
        head = model.decode_head
        self._model = [model]  # in a list: no copy of a copy where the model itself is copied
        self._dummies: dict[str, nn.Module] = {}
        self._network: IncrementalSegmentor | None = None
        if model.trunk_frozen:
            self._dummies = {
                name: copy.deepcopy(head.classifiers[name]).requires_grad_(False).eval()
                for name in ('background', 'unknown') if name in head.names
            }
        else:
            shared = {id(model.backbone): model.backbone} if model.frozen_prefix == 'backbone' else {}
            self._network = copy.deepcopy(model, shared).eval()
            for parameter in self._network.parameters():
                # A shared backbone is frozen already.
                parameter.requires_grad_(False)

    @property
    def network(self) -> 'IncrementalSegmentor':
        """The second network; where the trunk is frozen, the one that learns, which shares it."""
        return self._model[0] if self._network is None else self._network

    @torch.no_grad()
    def outputs(self, batch: 'Batch') -> tuple[tuple[Tensor, ...], Tensor]:
        """Maps of the backbone (or neck) and features of the old network; the batch's where shared.

        Args:
            batch: with images; where the backbone is frozen, its maps will do.
        """
        network = self._network
        if network is None:
            return batch.maps, batch.features
        if network.frozen_prefix == 'backbone' and batch.prefix:
            maps = network.after_backbone(batch.prefix)
        else:
            assert batch.inputs is not None  # what comes from the cache has maps
            maps = network.maps(batch.inputs)
        return maps, network.decode_head.features(maps)

    @torch.no_grad()
    def logits(self, batch: 'Batch', features: Tensor | None = None) -> Tensor:
        """Logits (B, 1 + old classes [+ 1], h, w) of [background, old classes, (unknown)].

        Args:
            batch: a batch of the new network.
            features: of :meth:`outputs`, where they are at hand.
        """
        head = self.network.decode_head
        classifiers = {**head.classifiers, **self._dummies}
        order = ['background', *head.old_names, *(['unknown'] if head.has_unknown else [])]
        if features is None:
            features = self.outputs(batch)[1]
        return classify([classifiers[name] for name in order], features)
