"""The DeepLab-v3 head of a network that learns classes task by task."""
from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import normal_init
from mmseg.models.decode_heads import ASPPHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..errors import InputError
from ..scenario import IGNORE, UNKNOWN
from .dropout import BatchDropout2d
from .losses import IGNORED, channel_table, looked_up

CLASSIFIERS = ('linear', 'conv')


@MODELS.register_module()
class IncrementalASPPHead(ASPPHead):
    """ASPP shared by all tasks, with a classifier for background, for unknown and for the classes of each task.

    Logit channels are ``[background, class 1 .. class n_seen, unknown]``: a class keeps its channel for ever.

    Args:
        classes_per_task: number of classes of each task so far; the last is the task being learned.
        in_channels: channels of the backbone's feature map.
        channels: channels of the ASPP output, on which the classifiers work.
        unknown: whether there is an unknown channel; without it unknown pixels are background.
        classifier: 'linear', one 1x1 filter per class (the paper); 'conv', a 3x3 convolution, normalisation and ReLU
            per task before them (the authors' code).
        dilations: dilation rates of the ASPP.
        dropout_ratio: share of feature channels dropped in training, before the classifiers.
        norm_cfg: normalisation layers.
        in_index: which feature map of the backbone to use.
        align_corners: as in :func:`torch.nn.functional.interpolate`.
        loss_decode: ``SigmoidBCELoss`` (the paper) or ``SoftmaxCELoss``.

    Raises:
        InputError: ``classifier`` is none of the two.
    """

    def __init__(self,
                 classes_per_task: Sequence[int],
                 in_channels: int,
                 channels: int,
                 *,
                 unknown: bool = True,
                 classifier: str = 'linear',
                 dilations: Sequence[int] = (1, 6, 12, 18),
                 dropout_ratio: float = 0.1,
                 norm_cfg: dict | None = None,
                 in_index: int = -1,
                 align_corners: bool = False,
                 loss_decode: dict | None = None) -> None:
        if classifier not in CLASSIFIERS:
            raise InputError(f'decode_head.classifier is {classifier!r}; choose one of {", ".join(CLASSIFIERS)}')
        self.num_seen = sum(classes_per_task)
        self.task = len(classes_per_task) - 1
        super().__init__(
            dilations=tuple(dilations),
            in_channels=in_channels,
            channels=channels,
            num_classes=self.num_seen + 1 + unknown,
            dropout_ratio=dropout_ratio,
            norm_cfg=norm_cfg,
            in_index=in_index,
            align_corners=align_corners,
            loss_decode=loss_decode or dict(type='SigmoidBCELoss'),
            ignore_index=IGNORE,
            init_cfg=None)
        del self.conv_seg
        if self.dropout is not None:
            self.dropout = BatchDropout2d(dropout_ratio)
        widths = {'background': 1, **{f'task_{t}': n for t, n in enumerate(classes_per_task)}}
        if unknown:
            widths['unknown'] = 1
        self.classifiers = nn.ModuleDict({name: self._classifier(classifier, n) for name, n in widths.items()})
        starts = [0, *accumulate(widths.values())]
        self._channels = {name: range(a, b) for name, a, b in zip(widths, starts, starts[1:], strict=False)}
        self._channel_tables: dict[tuple[int, ...], Tensor] = {}
        self._label_table = torch.full((256, ), IGNORED)
        self._label_table[:self.num_seen + 1] = torch.arange(self.num_seen + 1)[:256]
        self._label_table[UNKNOWN] = self.num_seen + 1 if unknown else 0
        self._label_table[IGNORE] = IGNORED

    def _classifier(self, kind: str, num_classes: int) -> nn.Sequential:
        """Build one classifier; its last layer is the 1x1 convolution with a filter per class."""
        own = [] if kind == 'linear' else [
            ConvModule(self.channels, self.channels, 3, padding=1, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        ]
        return nn.Sequential(*own, nn.Conv2d(self.channels, num_classes, 1))

    def init_weights(self) -> None:
        """Initialise the classifiers (:meth:`init_classifiers`); the ASPP starts as its modules do."""
        self.init_classifiers(*self.names)
        super().init_weights()

    def init_classifiers(self, *names: str) -> None:
        """Draw the filters of the named classifiers from N(0, 0.01^2), biases 0, as mmseg's heads do."""
        for name in names:
            normal_init(self.classifiers[name][-1], std=0.01)

    @property
    def names(self) -> list[str]:
        """Names of the classifiers in the order of their channels."""
        return list(self._channels)

    def channels_of(self, names: Sequence[str]) -> list[int]:
        """Logit channels of the named classifiers, ascending."""
        return [channel for name in self.names if name in names for channel in self._channels[name]]

    def begin_batch(self, seed: int, places: Sequence[int], size: int) -> None:
        """Announce the next batch to what is random, see :class:`BatchDropout2d`."""
        if self.dropout is not None:
            self.dropout.begin_batch(seed, places, size)

    def features(self, inputs: Sequence[Tensor]) -> Tensor:
        """Map the backbone's feature maps to float (B, channels, h, w), what the classifiers see."""
        return self._forward_feature(inputs)

    def classify(self, features: Tensor, names: Sequence[str] | None = None) -> Tensor:
        """Logits of the named classifiers (default: all), in the order of their channels.

        Args:
            features: float (B, channels, h, w).
            names: some of :attr:`names`.

        Returns:
            float (B, C, h, w).
        """
        kept = [self.classifiers[name] for name in self.names if names is None or name in names]
        return classify(kept, features)

    def cls_seg(self, feat: Tensor) -> Tensor:
        """Logits of all channels, as mmseg's ``forward`` expects them."""
        return self.classify(feat)

    def to_channels(self, labels: Tensor) -> Tensor:
        """Turn labels into channels: unknown becomes the last channel, ignored pixels ``IGNORED``.

        Args:
            labels: integer (B, H, W), 0..n_seen, UNKNOWN or IGNORE.

        Returns:
            int64 (B, H, W).
        """
        self._label_table = self._label_table.to(labels.device)
        return looked_up(self._label_table, labels)

    def to_labels(self, channels: Tensor) -> Tensor:
        """Undo :meth:`to_channels`: integer channels 0..C-1 or ``IGNORED`` to uint8 labels of the same shape.

        Raises:
            InputError: the network has more classes than a label map can hold, 253.
        """
        if self.num_seen >= UNKNOWN:
            raise InputError(f'label maps hold at most {UNKNOWN - 1} classes, but this network has {self.num_seen}')
        labels = channels.masked_fill(channels > self.num_seen, UNKNOWN)
        return labels.masked_fill(channels == IGNORED, IGNORE).to(torch.uint8)

    def loss(self, features: Tensor, target: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Loss over the named classifiers' channels, averaged over the valid pixels of all processes.

        The mean is taken over the whole batch, not per process: so the update does not depend on how many
        processes share a batch.

        Args:
            features: float (B, channels, h, w).
            target: int64 (B, H, W), channels of :attr:`names`' full order, or a negative target of ``losses``.
            names: the classifiers that learn.

        Returns:
            The loss under the loss module's name, in nats per pixel.
        """
        if self.dropout is not None:
            features = self.dropout(features)
        logits = self.classify(features, names).float()
        target = self._channels_among(target, names)
        valid = (target != IGNORED).sum()
        all_reduce(valid)
        total = self.loss_decode(logits, target, self.align_corners)
        return {self.loss_decode.loss_name: total * get_world_size() / valid.clamp(min=1)}

    def _channels_among(self, target: Tensor, names: Sequence[str]) -> Tensor:
        """Turn a target (B, H, W) over all channels into one over those of the named classifiers."""
        kept = self.channels_of(names)
        if len(kept) == self.out_channels:
            return target
        key = tuple(kept)
        if key not in self._channel_tables or self._channel_tables[key].device != target.device:
            self._channel_tables[key] = channel_table(self.out_channels, kept, target.device)
        return looked_up(self._channel_tables[key], target - IGNORED)

    def transfer_weights(self, source: str | None) -> None:
        """Start the filters of the task's classes as copies of one filter (SSUL, section 3.4, weight transfer).

        Args:
            source: 'unknown' (the paper), 'background', or None to keep their random start.

        Raises:
            InputError: the head has no such classifier.
        """
        if source is None:
            return
        if source not in self.classifiers:
            raise InputError(f'weights cannot be transferred from {source!r}: the head has no such classifier; '
                             'choose another model.weight_transfer')
        old, new = self.classifiers[source].state_dict(), self.classifiers[f'task_{self.task}'].state_dict()
        for key, value in new.items():
            # The last layer has a filter per class: the one filter is repeated. All others have equal shapes.
            value.copy_(old[key].expand_as(value))


def classify(classifiers: Sequence[nn.Sequential], features: Tensor) -> Tensor:
    """Concatenated logits (B, C, h, w) of classifiers on float (B, channels, h, w).

    1x1 filters run as one convolution: many small ones would cost a pass over the features each.
    """
    if all(len(classifier) == 1 for classifier in classifiers):
        weight = torch.cat([classifier[-1].weight for classifier in classifiers])
        bias = torch.cat([classifier[-1].bias for classifier in classifiers])
        return F.conv2d(features, weight, bias)
    return torch.cat([classifier(features) for classifier in classifiers], dim=1)
