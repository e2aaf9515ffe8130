"""Noise as the training data of a task, in memory: what a pass over a task's images needs of a loader."""
from collections.abc import Sequence
from types import SimpleNamespace

from mmengine.dataset import pseudo_collate
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ssul_mmseg.datasets.samplers import ReplayBatchSampler

from .networks import samples_of


class NoiseImages(Dataset):
    """A few images that stand for the many of a task, by the keys of a ``TaskDataset``.

    Args:
        inputs: float (B, 3, H, W), normalised images.
        labels: uint8 (B, H, W).
        classes: names of all classes so far, background's first.
        count: images of the task, which repeat the B; None: B.
    """

    num_exemplars = 0

    def __init__(self, inputs: Tensor, labels: Tensor, classes: Sequence[str], count: int | None = None) -> None:
        self.inputs, self.labels = inputs, labels
        self.num_new = len(inputs) if count is None else count
        self.metainfo = dict(classes=tuple(classes))

    def __len__(self) -> int:
        return self.num_new

    def __getitem__(self, key: tuple[int, int]) -> dict:
        place = key[0] % len(self.inputs)
        sample, = samples_of(self.labels[place:place + 1])
        return dict(inputs=self.inputs[place], data_samples=sample)


def loader_of(dataset: NoiseImages, batch_size: int) -> DataLoader:
    """The loader of a task's images, as a runner builds it, in this process."""
    sampler = ReplayBatchSampler(SimpleNamespace(dataset=dataset, epoch=0), batch_size)
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=pseudo_collate)
