"""Draw the batches of a task, half from its images and half from the memory, the same for any number of processes."""
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from mmengine.dist import get_dist_info
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from ..errors import InputError


class TaskImages(Protocol):
    """What the batches need to know of a ``TaskDataset``: its numbers of images of the task and of exemplars."""

    num_new: int
    num_exemplars: int


class EpochSampler(Protocol):
    """What they need of mmengine's sampler: the data set, and the epoch that the loop sets."""

    dataset: TaskImages
    epoch: int


@DATA_SAMPLERS.register_module()
class ReplayBatchSampler(Sampler):
    """K/2 images of D_t and K/2 of the memory M in every batch (SSUL, Algorithm 1); without M, K of D_t.

    An epoch passes once over D_t in random order. Every batch is whole: the images left over at the end of an epoch
    are skipped in it, and a task smaller than a batch repeats its images in other views. The batch of iteration i
    is a function of (seed, task, i). A key is (position, view) of a ``TaskDataset``: a new view is a new augmentation.

    Args:
        sampler: mmengine's ``DefaultSampler`` of the data set; it brings the epoch.
        batch_size: images per iteration of this process.
        seed: seed of the order.
        task: index of the task.
        half_pass: whether an epoch has ``|D_t| / K`` iterations, as in the authors' code, so that with memory it passes
            over half of D_t.

    Raises:
        InputError: there are exemplars, but a batch of all processes holds a single image.
    """

    def __init__(self,
                 sampler: EpochSampler,
                 batch_size: int,
                 seed: int = 0,
                 task: int = 0,
                 half_pass: bool = False) -> None:
        self.sampler = sampler
        self.num_new, self.num_exemplars = sampler.dataset.num_new, sampler.dataset.num_exemplars
        self.rank, self.world = get_dist_info()
        self.local_size = batch_size
        self.batch_size = batch_size * self.world
        self.seed, self.task = seed, task
        if self.num_exemplars and self.batch_size < 2:
            raise InputError('a batch with memory holds at least two images, one of them an exemplar; set '
                             'train_dataloader.batch_size to 2 or more')
        self.new_per_batch = self._new_per_batch(self.batch_size, bool(self.num_exemplars))
        self._iterations = self.iterations_of_epoch(
            self.num_new, self.batch_size, bool(self.num_exemplars), half_pass)
        self._orders: dict[tuple[str, int], np.ndarray] = {}

    @staticmethod
    def _new_per_batch(batch_size: int, replays: bool) -> int:
        """Images of D_t in a batch of all processes."""
        return batch_size - (batch_size // 2 if replays else 0)

    @classmethod
    def iterations_of_epoch(cls, num_new: int, batch_size: int, replays: bool, half_pass: bool = False) -> int:
        """Iterations of an epoch.

        Args:
            num_new: images of D_t.
            batch_size: images of a batch of all processes.
            replays: whether there are exemplars.
            half_pass: as in the constructor.
        """
        return max(1, num_new // (batch_size if half_pass else cls._new_per_batch(batch_size, replays)))

    def __len__(self) -> int:
        return self._iterations

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.batches(self.sampler.epoch * len(self), len(self))

    def batches(self, first: int, count: int, views: int | None = None, by_image: bool = False
                ) -> Iterator[list[tuple[int, int]]]:
        """This process's keys of ``count`` batches from iteration ``first`` of the task on.

        Args:
            first: index of an iteration, counted over all epochs.
            count: number of batches.
            views: augmentations per image, used in turn; None: a new one at every visit.
            by_image: see :meth:`own_places`.
        """
        for iteration in range(first, first + count):
            batch = self.batch(iteration, views)
            yield [batch[place] for place in self.own_places(batch, by_image)]

    def own_places(self, batch: Sequence[tuple[int, int]], by_image: bool = False) -> Sequence[int]:
        """Places in a whole batch of the images that this process takes.

        Args:
            batch: keys of a whole batch.
            by_image: Without a cache (False) every process takes an equal slice. With a cache (True) an image always
                goes to the same process, which holds its features.
        """
        if not by_image:
            return range(self.rank * self.local_size, (self.rank + 1) * self.local_size)
        return [place for place, (position, _) in enumerate(batch) if position % self.world == self.rank]

    def batch(self, iteration: int, views: int | None = None) -> list[tuple[int, int]]:
        """Keys of the whole batch of all processes, see :meth:`batches`."""
        epoch, iteration = divmod(iteration, len(self))
        # An epoch of a tiny task takes several passes over its images, each in an order of its own.
        passes = -(-self._iterations * self.new_per_batch // self.num_new)
        first = epoch * passes * self.num_new + iteration * self.new_per_batch
        new = self._draw('new', self.num_new, first, self.new_per_batch, views)
        replayed = self.batch_size - self.new_per_batch
        visit = epoch * self._iterations + iteration
        old = self._draw('memory', self.num_exemplars, visit * replayed, replayed, views)
        return new + [(self.num_new + position, view) for position, view in old]

    def _draw(self, part: str, size: int, start: int, count: int, views: int | None) -> list[tuple[int, int]]:
        """Draw ``count`` keys, from place ``start`` on, of an endless chain of shuffles of ``range(size)``."""
        keys = []
        for place in range(start, start + count):
            shuffle, position = divmod(place, size)
            view = shuffle if views is None else shuffle % views
            keys.append((int(self._order(part, size, shuffle)[position]), view))
        return keys

    def _order(self, part: str, size: int, shuffle: int) -> np.ndarray:
        """The ``shuffle``-th order of one part; remembered until the chain is two shuffles further."""
        remembered = self._orders
        if (part, shuffle) not in remembered:
            for key in [key for key in remembered if key[0] == part and key[1] < shuffle - 1]:
                del remembered[key]
            entropy = [self.seed, self.task, part == 'memory', shuffle]
            remembered[part, shuffle] = np.random.default_rng(entropy).permutation(size)
        return remembered[part, shuffle]
