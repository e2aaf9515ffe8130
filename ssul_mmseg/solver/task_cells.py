"""The cells of a task's images, made by one pass over them and kept where there is room."""
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from ..models.batch import TaskLoader
from ..models.one_pass import own_groups, pass_over
from ..models.segmentors import IncrementalSegmentor
from .cells import AT_ONCE, Cells, cells_of, soft_targets

Key = tuple[int, int]


class Cache(Protocol):
    """What keeps tensors by key as long as there is room: the engine's feature cache."""

    def __contains__(self, key: Key) -> bool: ...

    def __getitem__(self, key: Key) -> Any: ...

    def put(self, key: Key, features: Sequence[Tensor], labels: Tensor) -> None:
        """Keep features, rounded, and what belongs to them, if they fit."""

    def round_off(self, features: Tensor) -> Tensor:
        """Features as they come back."""


class TaskImages:
    """The images of a task, of which :meth:`cells` makes cells.

    Args:
        model: the task's network; its ``targets`` label the pixels.
        loader: the training data, with a ``ReplayBatchSampler``.
        cache: keeps the cells that are asked for again; None: they are computed again.
        context: makes what the trunk runs in, such as mixed precision.
        report: is called after every group of a pass over the trunk, with the groups done and those of the pass.
    """

    def __init__(self, model: IncrementalSegmentor, loader: TaskLoader, cache: Cache | None = None,
                 context: Callable[[], AbstractContextManager] = nullcontext,
                 report: Callable[[int, int], None] | None = None) -> None:
        self.model, self.loader, self.cache = model, loader, cache
        self.context, self.report = context, report

    def cells(self, names: Sequence[str], views: int = 1, exemplars: bool = False, kept: bool = False) -> 'TaskCells':
        """Cells of this process.

        Args:
            names: classifiers whose channels are the columns of the targets, in the head's order.
            views: augmentations of each image; its cells weigh as much as those of one.
            exemplars: of the exemplars, else of the task's own images.
            kept: whether they are passed over several times; without, nothing is kept.
        """
        dataset = self.loader.dataset
        own, end = dataset.num_new, dataset.num_new + dataset.num_exemplars
        positions = range(own, end) if exemplars else range(own)
        return TaskCells(self, own_groups(self.loader, positions, views), names, 1 / views, kept)


class TaskCells:
    """Cells group by group, as often as they are asked for; see :meth:`TaskImages.cells`.

    Args:
        images: where they come from.
        groups: keys of this process's images.
        names: classifiers whose channels are the columns of the targets.
        weight: of a cell whose pixels are all valid.
        kept: whether the cache keeps them.
    """

    def __init__(self, images: TaskImages, groups: Sequence[list[Key]], names: Sequence[str], weight: float,
                 kept: bool) -> None:
        self.images, self.groups, self.names, self.weight = images, groups, names, weight
        self.cache = images.cache if kept else None

    def __iter__(self) -> Iterator[Cells]:
        # Decided before the pass, which fills the cache.
        known = [self._has(keys) for keys in self.groups]
        fresh = self._fresh([keys for keys, there in zip(self.groups, known, strict=True) if not there])
        for keys, there in zip(self.groups, known, strict=True):
            for features, shares, weights in self._read(keys) if there else _in_pieces(*next(fresh)):
                yield cells_of(features, shares, weights * self.weight)

    def _has(self, keys: Sequence[Key]) -> bool:
        """Whether the cache has a group."""
        return self.cache is not None and all(key in self.cache for key in keys)

    def _read(self, keys: Sequence[Key]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Features, shares and weights of a group in the cache, piece by piece."""
        device = next(self.images.model.parameters()).device
        assert self.cache is not None  # _has says so
        entries = [self.cache[key] for key in keys]
        count = images_at_once(entries[0].features[0])
        for start in range(0, len(entries), count):
            piece = entries[start:start + count]
            features = torch.stack([entry.features[0] for entry in piece]).to(device)
            shown = torch.stack([entry.labels for entry in piece]).to(device)
            yield features, shown[:, :-1], shown[:, -1]

    def _fresh(self, groups: Sequence[list[Key]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Features, shares and weights of groups that pass the trunk; the cache keeps what it has room for."""
        images, head = self.images, self.images.model.decode_head
        batches = pass_over(images.model, images.loader, groups, images.context)
        for done, (keys, batch) in enumerate(zip(groups, batches, strict=True), 1):
            features = batch.features
            target, columns = head.channels_among(batch.targets, self.names), len(head.channels_of(self.names))
            shares, weights = soft_targets(target, columns, (features.shape[2], features.shape[3]), head.align_corners)
            if self.cache is not None:
                # Rounded on every use, the first one included: results do not depend on what is kept.
                features = self.cache.round_off(features)
                shown = torch.cat([shares, weights.unsqueeze(1)], dim=1)
                for key, part, labels in zip(keys, features, shown, strict=True):
                    self.cache.put(key, [part], labels)
            if images.report is not None:
                images.report(done, len(groups))
            yield features, shares, weights


def images_at_once(features: Tensor) -> int:
    """How many images with such feature maps (..., h, w) are made cells at once: it bounds the memory of a solution."""
    return max(1, AT_ONCE // (features.shape[-2] * features.shape[-1]))


def _in_pieces(*maps: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Maps of a group, cut as those that are read from the cache: sums over cells are the same to the last bit."""
    return zip(*(part.split(images_at_once(maps[0])) for part in maps), strict=True)
