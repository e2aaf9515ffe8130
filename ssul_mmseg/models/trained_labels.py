"""The labels that a network is trained on, pseudo-labels included."""
import torch
from torch import Tensor

from .batch import Batch
from .segmentors import IncrementalSegmentor


@torch.no_grad()
def trained_labels(model: IncrementalSegmentor, data: dict, size: int) -> tuple[Tensor, Tensor]:
    """Labels of a loaded batch before and after the method has seen them.

    Args:
        model: with the old task's weights, in the mode in which training asks it for targets.
        data: a loaded batch of n images.
        size: images of a forward pass in training; a smaller batch is filled up, as an image's features depend in their
            last bits on the size of its batch.

    Returns:
        uint8 (n, H, W) each: the labels as the pipeline gives them, and as the loss gets them.
    """
    data = model.data_preprocessor(data, True)
    labels = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])
    filled = torch.arange(max(size, len(labels))) % len(labels)
    inputs, shown = data['inputs'][filled], labels[filled]
    # In task 0 no old network labels anything, so that the images need not pass the new one.
    batch = model.batch_of(inputs, shown) if model.task else Batch(shown, inputs=inputs)
    targets = model.targets(batch)
    return labels.to(torch.uint8).cpu(), model.decode_head.to_labels(targets[:len(labels)]).cpu()

