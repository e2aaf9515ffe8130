"""Dropout that several processes draw as one."""
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class BatchDropout2d(nn.Dropout2d):
    """``Dropout2d`` whose mask is a function of a seed and of an image's place in the whole batch.

    So processes that share a batch drop what one process with the whole batch drops, on any device. Outside of a
    training loop, where no batch was announced, it is ``Dropout2d``.

    Args:
        ratio: share of the channels that are dropped, in [0, 1).
    """

    def __init__(self, ratio: float) -> None:
        super().__init__(ratio)
        self._batch: tuple[int, Sequence[int], int] | None = None

    def begin_batch(self, seed: int, places: Sequence[int], size: int) -> None:
        """Announce the next batch.

        Args:
            seed: of the batch, the same in all processes.
            places: places in the whole batch of the images that this process has.
            size: number of images of the whole batch.
        """
        self._batch = seed, places, size

    def forward(self, input: Tensor) -> Tensor:
        """Drop channels of float (B, C, h, w), and scale the others by 1 / (1 - ratio)."""
        if not self.training or self._batch is None:
            return super().forward(input)
        seed, places, size = self._batch
        # On the CPU: the numbers of a GPU's generator are others.
        drawn = torch.rand(size, input.shape[1], generator=torch.Generator().manual_seed(seed))
        kept = (drawn >= self.p)[list(places), :, None, None].to(input.device)
        return input * kept / (1 - self.p)
