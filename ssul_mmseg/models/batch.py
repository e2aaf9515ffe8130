"""A batch as a method sees it, and a loaded batch in parts that a network can take."""
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor


class TaskLoader(Protocol):
    """The data loader of a task, which iterates over loaded batches.

    Its ``dataset`` is a ``TaskDataset``, its ``batch_sampler`` a ``ReplayBatchSampler``; models know neither class.
    """

    dataset: Any
    batch_sampler: Any
    num_workers: int
    collate_fn: Any
    pin_memory: bool

    def __iter__(self) -> Iterator[Any]:
        """Iterate over an epoch."""


@dataclass
class Batch:
    """What a method sees of a batch of B images.

    Args:
        labels: uint8 or int64 (B, H, W), augmented labels.
        features: float (B, feature_channels, h, w), what the classifiers see; empty until the network has run.
        inputs: float (B, 3, H, W), normalised images; None where they come from the feature cache.
        prefix: maps of the backbone; () where features come from the feature cache.
        maps: maps that the head sees, of the backbone or the neck; () likewise.
        targets: int64 (B, H, W), channels of the head or ``losses.IGNORED``; what ``targets`` returned, empty before.
        old: what ``ask_old_model`` returned.
    """

    labels: Tensor
    features: Tensor = field(default_factory=lambda: torch.empty(0))
    inputs: Tensor | None = None
    prefix: tuple[Tensor, ...] = ()
    maps: tuple[Tensor, ...] = ()
    targets: Tensor = field(default_factory=lambda: torch.empty(0))
    old: dict[str, Tensor] = field(default_factory=dict)


def of_one_size(batch: dict) -> Iterator[dict]:
    """Parts of a loaded batch, in its order, each of images of one size: a network takes no others together."""
    images, samples = batch['inputs'], batch['data_samples']
    for _, part in groupby(range(len(images)), key=lambda position: images[position].shape):
        positions = list(part)
        yield dict(inputs=[images[i] for i in positions], data_samples=[samples[i] for i in positions])
