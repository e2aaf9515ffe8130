"""One pass of a network over a task's images, outside training: each image once per view, in groups of one size."""
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import product

import torch
from torch.utils.data import DataLoader

from .batch import TaskLoader
from .segmentors import Batch, IncrementalSegmentor


def load(loader: TaskLoader, batches: Iterable[list]) -> Iterator[dict]:
    """Load batches of keys by the workers of ``loader``, which start with the first and end with the last."""
    return iter(DataLoader(
        loader.dataset, batch_sampler=batches, num_workers=loader.num_workers, collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory))


def own_groups(loader: TaskLoader, positions: Iterable[int], views: int = 1) -> list[list[tuple[int, int]]]:
    """Keys (position, view) of this process's images, cut into groups of as many as a batch of a process has.

    Args:
        loader: with a ``ReplayBatchSampler``.
        positions: positions in its data set; an image always belongs to the same process.
        views: augmentations of each image.
    """
    sampler = loader.batch_sampler
    own = [position for position in positions if position % sampler.world == sampler.rank]
    keys = [(position, view) for view, position in product(range(views), own)]
    return [keys[start:start + sampler.local_size] for start in range(0, len(keys), sampler.local_size)]


def pass_over(model: IncrementalSegmentor, loader: TaskLoader, groups: Sequence[list[tuple[int, int]]],
              context: Callable[[], AbstractContextManager] = nullcontext) -> Iterator[Batch]:
    """Batches of groups of images, with features and targets and without gradients.

    Args:
        model: in the mode that it is wanted in.
        loader: with a ``ReplayBatchSampler``.
        groups: of :func:`own_groups`.
        context: makes what the network runs in, such as mixed precision.
    """
    for keys, data in zip(groups, load(loader, groups) if groups else (), strict=True):
        # Not around the yield: the caller's gradients are its own business.
        with torch.no_grad(), context():
            data = model.data_preprocessor(data, True)
            # The last bits of an image's features depend on the size of its batch: a smaller group is filled up.
            filled = torch.arange(loader.batch_sampler.local_size) % len(keys)
            labels = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])
            batch = model.batch_of(data['inputs'][filled], labels[filled])
            targets = model.targets(batch)
        count = len(keys)
        yield Batch(batch.labels[:count], batch.features[:count].float(), targets=targets[:count])


@contextmanager
def evaluating(model: IncrementalSegmentor) -> Iterator[None]:
    """The network in evaluation mode: a pass over the images leaves its statistics as they are."""
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)
