"""SSUL as its formulas read: two networks, every channel at full resolution, one-hot targets."""
import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssul_mmseg.methods.ssul import SSUL
from ssul_mmseg.models.segmentors import Batch as ModelBatch
from ssul_mmseg.models.segmentors import OldTask
from ssul_mmseg.scenario import BACKGROUND, IGNORE, UNKNOWN

from .networks import Batch, build_ssul
from .settings import Options


class PlainSSUL(nn.Module):
    """The plain formulation of a task that is not the first; what the fast one is measured and checked against.

    One-hot targets are made as the field's code does, from MiB on: integers with a channel for ignored pixels, turned
    to float, that channel removed.

    Args:
        network: the network that learns, in training mode; of it only the modules are used.
        old: the network of the task before.
    """

    def __init__(self, network: SSUL, old: SSUL) -> None:
        super().__init__()
        self.network = network
        self.old = copy.deepcopy(old).requires_grad_(False).eval()
        self.num_old = old.decode_head.num_seen

    def logits(self, network: SSUL, inputs: Tensor, size: Sequence[int]) -> Tensor:
        """All logits (B, C, H, W) of a network, one classifier after the other."""
        head = network.decode_head
        features = head.features(network.extract_feat(inputs.contiguous(memory_format=network.memory_format)))
        if head.dropout is not None:
            features = head.dropout(features)
        logits = torch.cat([head.classifiers[name](features) for name in head.names], dim=1).float()
        return F.interpolate(logits, size=tuple(size), mode='bilinear', align_corners=head.align_corners)

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """Eq. 1 over all channels: int64 (B, H, W), channels; IGNORE is left to :meth:`loss`."""
        assert self.network.tau is not None  # SSUL's default
        # Sigmoid of the largest logit, not largest sigmoid: leaner, and near 1 sigmoids of different logits tie.
        highest, best = self.logits(self.old, batch.inputs, batch.labels.shape[1:]).max(dim=1)
        is_old = (best >= 1) & (best <= self.num_old)
        unknown = self.network.decode_head.num_seen + 1
        target = (batch.labels == UNKNOWN).long() * unknown
        unlabelled = (batch.labels == BACKGROUND) | (batch.labels == UNKNOWN)
        target = torch.where(unlabelled & is_old & (highest.sigmoid() > self.network.tau), best, target)
        return target.masked_fill(batch.new, self.num_old + 1)

    def loss(self, batch: Batch) -> Tensor:
        """Binary cross-entropy of all channels, summed over them, averaged over valid pixels: a scalar in nats."""
        valid = batch.labels != IGNORE
        logits = self.logits(self.network, batch.inputs, batch.labels.shape[1:])
        channels = logits.shape[1]
        target = torch.where(valid, self.targets(batch), channels)
        one_hot = F.one_hot(target, channels + 1).float().permute(0, 3, 1, 2)[:, :channels]
        bce = F.binary_cross_entropy_with_logits(logits, one_hot, reduction='none').sum(1)
        return (bce * valid).sum() / valid.sum().clamp(min=1)


def build_reference(options: Options, classes_per_task: Sequence[int], same_network: bool) -> PlainSSUL:
    """The plain formulation of a task.

    Args:
        options: of the run.
        classes_per_task: of all tasks so far, at least two.
        same_network: whether classifiers and memory layout are ours, so that only the formulation differs; else
            they are those of the authors' code, a 3x3 convolution per task and the default layout.
    """
    classifier = 'linear' if same_network else 'conv'
    old = build_ssul(options, classes_per_task[:-1], classifier, channels_last=same_network)
    network = build_ssul(options, classes_per_task, classifier, channels_last=same_network)
    network.start_task(OldTask(old.state_dict()))
    return PlainSSUL(network.train(), old)


def fast_loss(model: SSUL, batch: Batch) -> Tensor:
    """Loss of the fast formulation, over the channels that learn, as ``SSUL.loss`` computes it."""
    seen = model.batch_of(batch.inputs, batch.labels)
    seen.targets = fast_targets(model, seen, batch)
    loss, = model.losses(seen).values()
    return loss


def fast_targets(model: SSUL, seen: ModelBatch, batch: Batch) -> Tensor:
    """Targets of the fast formulation: int64 (B, H, W), channels or ``losses.IGNORED``."""
    head = model.decode_head
    return model.targets(seen).masked_fill(batch.new, head.channels_of([head.new_name])[0])
