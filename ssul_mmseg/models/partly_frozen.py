"""A network of which some is frozen: what that is, and how images pass it."""
from collections.abc import Sequence
from itertools import chain
from typing import Self

import torch
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor, nn

from .heads import IncrementalHead


class PartlyFrozenSegmentor(EncoderDecoder):
    """An encoder-decoder of which some does not learn in this task, or in none to come.

    The *trunk* is everything below the classifiers: backbone, neck, and the head's own layers.
    """

    decode_head: IncrementalHead
    freeze_backbone: bool
    """Whether the backbone keeps its (pretrained) weights in every task, the first included."""
    memory_format: torch.memory_format
    """Layout of images and weights in memory."""

    def frozen_modules(self) -> list[nn.Module]:
        """Modules that do not learn in this task: by default the backbone where ``freeze_backbone`` says so."""
        return [self.backbone] if self.freeze_backbone else []

    @property
    def trunk_fixed(self) -> bool:
        """Whether no task after this one changes what is below the classifiers."""
        return False

    # Parts, and which of them learn.

    @property
    def heads(self) -> list[IncrementalHead]:
        """The decode head and the auxiliary heads."""
        return [head for _, head in self.named_heads()]

    def named_heads(self) -> list[tuple[str, IncrementalHead]]:
        """The heads with their names in the state dict."""
        auxiliary = self.auxiliary_head if self.with_auxiliary_head else []
        if not isinstance(auxiliary, nn.ModuleList | list):
            return [('decode_head', self.decode_head), ('auxiliary_head', auxiliary)]
        return [('decode_head', self.decode_head),
                *((f'auxiliary_head.{place}', head) for place, head in enumerate(auxiliary))]

    def trunk_modules(self) -> list[nn.Module]:
        """Everything below the classifiers: backbone, neck and the heads' own layers."""
        necks = [self.neck] if self.with_neck else []
        return [self.backbone, *necks, *self.decode_head.trunk_modules()]

    def freeze(self) -> None:
        """Stop the frozen modules from learning; the runner calls it before it wraps the model."""
        for module in self.frozen_modules():
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; frozen modules stay in evaluation mode, so that BatchNorm statistics stay put."""
        super().train(mode)
        for module in self.frozen_modules():
            module.eval()
        return self

    @property
    def frozen_prefix(self) -> str | None:
        """How far up the network is frozen: 'trunk', 'backbone' or None."""
        parts = chain.from_iterable(module.modules() for module in self.frozen_modules())
        frozen = {id(part) for part in parts}
        if all(id(module) in frozen for module in self.trunk_modules()):
            return 'trunk'
        return 'backbone' if id(self.backbone) in frozen else None

    @property
    def trunk_frozen(self) -> bool:
        """Whether everything below the classifiers is frozen."""
        return self.frozen_prefix == 'trunk'

    @property
    def fixed_prefix(self) -> str | None:
        """How far up no task after this one changes the network: 'trunk', 'backbone' or None."""
        if self.trunk_fixed:
            return 'trunk'
        return 'backbone' if self.freeze_backbone else None

    @property
    def fixed_keys(self) -> tuple[str, ...]:
        """Keys of the model's config of which :meth:`fixed_part` depends."""
        below = 'data_preprocessor', 'backbone'
        return (*below, 'neck', 'decode_head') if self.fixed_prefix == 'trunk' else below

    def fixed_state(self) -> dict[str, Tensor]:
        """The part of the state dict that no later task changes, see :attr:`fixed_prefix`."""
        if self.fixed_prefix == 'trunk':
            return self.trunk_state()
        return {f'backbone.{key}': value for key, value in self.backbone.state_dict().items()}

    def fixed_part(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """What no later task changes of images (B, 3, H, W): features, or the backbone's maps."""
        return (self.trunk(inputs), ) if self.fixed_prefix == 'trunk' else self.backbone_maps(inputs)

    def features_of(self, fixed: Sequence[Tensor]) -> Tensor:
        """Features (B, feature_channels, h, w) of what :meth:`fixed_part` returned."""
        return fixed[0] if self.fixed_prefix == 'trunk' else self.head_features(self.after_backbone(fixed))

    def trunk_state(self) -> dict[str, Tensor]:
        """The part of the state dict that lies below the decode head's classifiers."""
        return {key: value for key, value in self.state_dict().items()
                if not key.startswith(('decode_head.classifiers.', 'auxiliary_head.'))}

    # Images become features.

    def backbone_maps(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Maps of the backbone for images (B, 3, H, W)."""
        with self._gradients(self.frozen_prefix is None):
            maps = self.backbone(inputs.contiguous(memory_format=self.memory_format))
        # Some backbones return one map as it is.
        return (maps, ) if isinstance(maps, Tensor) else tuple(maps)

    def after_backbone(self, prefix: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps that the head sees: those of the backbone, through the neck if there is one."""
        with self._gradients(not self.trunk_frozen):
            return tuple(self.neck(tuple(prefix))) if self.with_neck else tuple(prefix)

    def maps(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Maps that the head sees for images (B, 3, H, W)."""
        return self.after_backbone(self.backbone_maps(inputs))

    def head_features(self, maps: Sequence[Tensor]) -> Tensor:
        """Features (B, feature_channels, h, w) of the maps that the head sees."""
        with self._gradients(not self.trunk_frozen):
            return self.decode_head.features(maps)

    def trunk(self, inputs: Tensor) -> Tensor:
        """Everything below the classifiers: images (B, 3, H, W) to features (B, feature_channels, h, w)."""
        return self.head_features(self.maps(inputs))

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Maps that the head sees, as mmseg calls them."""
        return self.maps(inputs)

    @staticmethod
    def _gradients(wanted: bool) -> torch.set_grad_enabled:
        """A context with gradients where they are wanted and not switched off already."""
        return torch.set_grad_enabled(wanted and torch.is_grad_enabled())
