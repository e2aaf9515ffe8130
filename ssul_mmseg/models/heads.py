"""Heads of a network that learns classes task by task: any of mmseg's, with classifiers per task beside it."""
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import normal_init
from mmengine.structures import PixelData
from mmseg.models.decode_heads import ASPPHead, DepthwiseSeparableASPPHead, FCNHead, PSPHead, SegformerHead, UPerHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InputError
from ..scenario import IGNORE, UNKNOWN
from .dropout import BatchDropout2d
from .losses import IGNORED, channel_table, lookup

CLASSIFIERS = ('linear', 'conv', 'hybrid')
BASE = 'base'
"""Name of the base task's filters beside hybrid classifiers."""


class IncrementalHead(BaseDecodeHead):
    """Mixin over one of mmseg's decode heads: classifiers for background, for unknown, for the classes of each task.

    The head's own layers make the features; its final classifier is taken out. Logit channels are ``[background,
    class 1 .. class n_seen, unknown]``: a class keeps its channel for ever. A head is made of it in one line:
    ``class IncrementalFCNHead(IncrementalHead, FCNHead)``.

    Args:
        classes_per_task: number of classes of each task so far; the last is the task being learned.
        unknown: whether there is an unknown channel; without it unknown pixels are background.
        classifier: 'linear', one 1x1 filter per class (the paper); 'conv', a 3x3 convolution, normalisation and ReLU
            per task before them (the authors' code); 'hybrid', in task 0 as 'linear', later a 1x1 filter per class and
            for background on the features and on the softmax of the base task's filters, which stay (``Analytic``).
        skip: whether the classifiers see the backbone's map, normalised, beside the features of the head. The head
            learns in task 0 to leave out what no base class needs; what a pretrained backbone knows of later classes is
            still in its map.
        dropout_ratio: share of feature channels dropped in training, before the classifiers.
        loss_decode: ``SigmoidBCELoss`` (the paper, the default), ``SoftmaxCELoss``, or any of mmseg's losses.
        head: the arguments of mmseg's head, such as ``in_channels`` and ``channels``.

    Raises:
        InputError: ``classifier`` is none of the three, or ``skip`` is set for a head of several maps.
    """

    dropout: BatchDropout2d | None

    def __init__(self,
                 classes_per_task: Sequence[int],
                 *,
                 unknown: bool = True,
                 classifier: str = 'linear',
                 skip: bool = False,
                 dropout_ratio: float = 0.1,
                 loss_decode: dict | list[dict] | None = None,
                 **head: Any) -> None:
        if classifier not in CLASSIFIERS:
            raise InputError(f'model.decode_head.classifier is {classifier!r}; choose one of {", ".join(CLASSIFIERS)}')
        self.num_seen = sum(classes_per_task)
        self.num_old = sum(classes_per_task[:-1])
        self.task = len(classes_per_task) - 1
        self.classifier = classifier
        self.skip = skip
        # In later tasks the base task's opinion on what is unknown is one input more, and no class.
        opinion = 1 + classes_per_task[0] + unknown if classifier == 'hybrid' and self.task > 0 else 0
        unknown = unknown and not opinion
        # mmseg's own init_cfg is about the classifier that is taken out.
        super().__init__(**{'init_cfg': None, **head}, num_classes=self.num_seen + 1 + unknown,
                         dropout_ratio=dropout_ratio, loss_decode=loss_decode or dict(type='SigmoidBCELoss'),
                         ignore_index=IGNORE)
        del self.conv_seg
        if self.dropout is not None:
            self.dropout = BatchDropout2d(dropout_ratio)
        widths = {'background': 1, **{task_name(t): n for t, n in enumerate(classes_per_task)}}
        if unknown:
            widths['unknown'] = 1
        if skip and self.input_transform is not None:
            raise InputError(f'model.decode_head.skip is set, but {type(self).__name__} sees several maps of the '
                             'backbone; remove it, or take a head of one map, such as IncrementalASPPHead')
        if skip:
            # Of the head's scale: else its filters would need a learning rate of their own.
            self.skip_norm = build_norm_layer(self.norm_cfg or dict(type='BN'), self.in_channels)[1]
        inputs = self.feature_channels + opinion
        self.classifiers = nn.ModuleDict({name: self._classifier(inputs, n) for name, n in widths.items()})
        if opinion:
            self.classifiers[BASE] = self._classifier(self.feature_channels, opinion)
        starts = [0, *accumulate(widths.values())]
        self._channels = {name: range(a, b) for name, a, b in zip(widths, starts, starts[1:], strict=False)}
        self._channel_tables: dict[tuple[int, ...], Tensor] = {}
        self._label_table = torch.full((256, ), IGNORED)
        self._label_table[:self.num_seen + 1] = torch.arange(self.num_seen + 1)[:256]
        self._label_table[UNKNOWN] = self.num_seen + 1 if unknown else 0
        self._label_table[IGNORE] = IGNORED

    @property
    def feature_channels(self) -> int:
        """Channels of the features that the classifiers see."""
        return self.channels + self.in_channels if self.skip else self.channels

    def _classifier(self, inputs: int, num_classes: int) -> nn.Sequential:
        """Build one classifier; its last layer is the 1x1 convolution with a filter per class."""
        if self.classifier != 'conv':
            return nn.Sequential(nn.Conv2d(inputs, num_classes, 1))
        own = ConvModule(inputs, self.channels, 3, padding=1, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        return nn.Sequential(own, nn.Conv2d(self.channels, num_classes, 1))

    def init_weights(self) -> None:
        """Initialise the classifiers (:meth:`init_classifiers`); the head's own layers start as mmseg's do."""
        self.init_classifiers(*self.names)
        super().init_weights()

    def init_classifiers(self, *names: str) -> None:
        """Draw the filters of the named classifiers from N(0, 0.01^2), biases 0, as mmseg's heads do."""
        for name in names:
            normal_init(cast(nn.Sequential, self.classifiers[name])[-1], std=0.01)

    def filters(self, name: str) -> nn.Conv2d:
        """The 1x1 convolution of a classifier, with a filter per class."""
        return cast(nn.Conv2d, cast(nn.Sequential, self.classifiers[name])[-1])

    def biases(self, name: str) -> Tensor:
        """The biases of a classifier, one per class."""
        return cast(Tensor, self.filters(name).bias)

    @property
    def names(self) -> list[str]:
        """Names of the classifiers in the order of their channels."""
        return list(self._channels)

    @property
    def old_names(self) -> list[str]:
        """Names of the classifiers of the classes learned before this task."""
        return [task_name(task) for task in range(self.task)]

    @property
    def new_name(self) -> str:
        """Name of the classifier of this task's classes."""
        return task_name(self.task)

    @property
    def has_unknown(self) -> bool:
        """Whether there is an unknown channel."""
        return 'unknown' in self._channels

    @property
    def independent_channels(self) -> bool:
        """Whether the loss judges each channel alone, by a sigmoid, and not all of them by a softmax."""
        losses = self.loss_decode if isinstance(self.loss_decode, nn.ModuleList) else [self.loss_decode]
        return all(getattr(loss, 'use_sigmoid', False) for loss in losses)

    def channels_of(self, names: Sequence[str]) -> list[int]:
        """Logit channels of the named classifiers, ascending."""
        shown = [self._channels[name] for name in self.names if name in names]
        return list(chain.from_iterable(shown))

    def trunk_modules(self) -> list[nn.Module]:
        """The head's own layers: all that lies between the backbone's maps and the classifiers."""
        beside = (self.classifiers, self.dropout, self.loss_decode)
        outside = {id(module) for module in beside}
        return [module for module in self.children() if id(module) not in outside]

    def classifier_norms(self) -> list[nn.Module]:
        """BatchNorm layers of the classifiers; linear ones have none."""
        return [module for module in self.classifiers.modules() if isinstance(module, _BatchNorm)]

    def begin_batch(self, seed: int, places: Sequence[int], size: int) -> None:
        """Announce the next batch to what is random, see :class:`BatchDropout2d`."""
        if self.dropout is not None:
            self.dropout.begin_batch(seed, places, size)

    def features(self, inputs: Sequence[Tensor]) -> Tensor:
        """Map the backbone's feature maps to float (B, feature_channels, h, w), what the classifiers see."""
        # mmseg's forward ends in cls_seg, which is the identity here.
        features = super().forward(inputs)
        if not self.skip:
            return features
        beside = resize(self.skip_norm(self._transform_inputs(inputs)), features.shape[2:], mode='bilinear',
                        align_corners=self.align_corners)
        return torch.cat([features, beside], dim=1)

    def cls_seg(self, feat: Tensor) -> Tensor:
        """Give features back as they are: the classifiers follow in :meth:`classify`."""
        return feat

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits (B, C, h, w) of all channels from the backbone's feature maps, as mmseg expects them."""
        features = self.features(inputs)
        return self.classify(features if self.dropout is None else self.dropout(features))

    def classify(self, features: Tensor, names: Sequence[str] | None = None) -> Tensor:
        """Logits of the named classifiers (default: all), in the order of their channels.

        Args:
            features: float (B, feature_channels, h, w).
            names: some of :attr:`names`.

        Returns:
            float (B, C, h, w).
        """
        kept = [self.classifiers[name] for name in self.names if names is None or name in names]
        if BASE in self.classifiers:
            opinion = classify([self.classifiers[BASE]], features).softmax(1)
            features = torch.cat([features, opinion], dim=1)
        return classify(kept, features)

    def to_channels(self, labels: Tensor) -> Tensor:
        """Turn labels into channels: unknown becomes the last channel, ignored pixels ``IGNORED``.

        Args:
            labels: integer (B, H, W), 0..n_seen, UNKNOWN or IGNORE.

        Returns:
            int64 (B, H, W).
        """
        self._label_table = self._label_table.to(labels.device)
        return lookup(self._label_table, labels)

    def to_labels(self, channels: Tensor) -> Tensor:
        """Undo :meth:`to_channels`: integer channels 0..C-1 or ``IGNORED`` to uint8 labels of the same shape.

        Raises:
            InputError: the network has more classes than a label map can hold, 253.
        """
        if self.num_seen >= UNKNOWN:
            raise InputError(f'label maps hold at most {UNKNOWN - 1} classes, but this network has {self.num_seen}')
        labels = channels.masked_fill(channels > self.num_seen, UNKNOWN)
        return labels.masked_fill(channels == IGNORED, IGNORE).to(torch.uint8)

    def pixel_loss(self, features: Tensor, target: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Loss over the named classifiers' channels.

        A loss of this package is averaged over the valid pixels of all processes, not per process: so the update does
        not depend on how many processes share a batch. mmseg's losses are averaged as mmseg does, over all channels.

        Args:
            features: float (B, feature_channels, h, w).
            target: int64 (B, H, W), channels of :attr:`names`' full order, or a negative target of ``losses``.
            names: the classifiers that learn.

        Returns:
            The loss under the loss module's name, in nats per pixel.
        """
        if self.dropout is not None:
            features = self.dropout(features)
        # A list of losses and a pixel sampler need every channel of every pixel, at full resolution.
        if self.sampler is not None or not hasattr(self.loss_decode, 'grid_sum'):
            return self._mmseg_loss(self.classify(features).float(), target)
        logits = self.classify(features, names).float()
        target = self.channels_among(target, names)
        valid = (target != IGNORED).sum()
        all_reduce(valid)
        total = self.loss_decode.grid_sum(logits, target, self.align_corners)
        return {self.loss_decode.loss_name: total * get_world_size() / valid.clamp(min=1)}

    def _mmseg_loss(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """mmseg's losses, sampler and accuracy for logits (B, C, h, w) and channels (B, H, W)."""
        labels = target.masked_fill(target < 0, self.ignore_index).unsqueeze(1)
        return self.loss_by_feat(logits, [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels])

    def channels_among(self, target: Tensor, names: Sequence[str]) -> Tensor:
        """Turn a target (B, H, W) over all channels into one over those of the named classifiers."""
        kept = self.channels_of(names)
        if len(kept) == self.out_channels:
            return target
        key = tuple(kept)
        if key not in self._channel_tables or self._channel_tables[key].device != target.device:
            self._channel_tables[key] = channel_table(self.out_channels, kept, target.device)
        return lookup(self._channel_tables[key], target - IGNORED)

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
        old, new = self.classifiers[source].state_dict(), self.classifiers[self.new_name].state_dict()
        for key, value in new.items():
            # The last layer has a filter per class: the one filter is repeated. All others have equal shapes.
            value.copy_(old[key].expand_as(value))


@MODELS.register_module()
class IncrementalASPPHead(IncrementalHead, ASPPHead):
    """DeepLab-v3's head (Chen et al., 2017).

    Args:
        projection: side of the convolution that brings the concatenated branches to ``channels``: 1 as in DeepLab-v3
            and in the authors' code, 3 as in mmseg.
        head: the arguments of :class:`IncrementalHead` and of mmseg's ``ASPPHead``, such as ``dilations``.

    Raises:
        InputError: ``projection`` is neither 1 nor 3.
    """

    def __init__(self, *args: Any, projection: int = 1, **head: Any) -> None:
        if projection not in (1, 3):
            raise InputError(f"model.decode_head.projection is {projection!r}; choose 1, DeepLab-v3's, or 3, mmseg's")
        super().__init__(*args, **head)
        if projection == 1:
            self.bottleneck = ConvModule(
                (len(self.dilations) + 1) * self.channels, self.channels, 1, conv_cfg=self.conv_cfg,
                norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)


@MODELS.register_module()
class IncrementalDepthwiseSeparableASPPHead(IncrementalHead, DepthwiseSeparableASPPHead):
    """DeepLab-v3+'s head; mmseg's ``DepthwiseSeparableASPPHead`` has its arguments."""


@MODELS.register_module()
class IncrementalPSPHead(IncrementalHead, PSPHead):
    """PSPNet's head; mmseg's ``PSPHead`` has its arguments."""


@MODELS.register_module()
class IncrementalUPerHead(IncrementalHead, UPerHead):
    """UPerNet's head; mmseg's ``UPerHead`` has its arguments."""


@MODELS.register_module()
class IncrementalSegformerHead(IncrementalHead, SegformerHead):
    """SegFormer's head; mmseg's ``SegformerHead`` has its arguments."""


@MODELS.register_module()
class IncrementalFCNHead(IncrementalHead, FCNHead):
    """A fully convolutional head, also as an auxiliary one; mmseg's ``FCNHead`` has its arguments."""


def task_name(task: int) -> str:
    """Name of the classifier of a task's classes."""
    return f'task_{task}'


def classify(classifiers: Sequence[nn.Module], features: Tensor) -> Tensor:
    """Concatenated logits (B, C, h, w) of classifiers on float (B, feature_channels, h, w).

    1x1 filters run as one convolution: many small ones would cost a pass over the features each.
    """
    layers = [list(cast(nn.Sequential, classifier)) for classifier in classifiers]
    if all(len(parts) == 1 for parts in layers):
        filters = [cast(nn.Conv2d, parts[-1]) for parts in layers]
        weight = torch.cat([layer.weight for layer in filters])
        bias = torch.cat([cast(Tensor, layer.bias) for layer in filters])
        return F.conv2d(features, weight, bias)
    return torch.cat([classifier(features) for classifier in classifiers], dim=1)
