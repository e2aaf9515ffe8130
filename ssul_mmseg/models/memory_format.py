"""The memory layout in which a network's convolutions run."""
import torch
from torch import nn


def choose_memory_format(network: nn.Module, channels_last: bool) -> torch.memory_format:
    """Channels-last layout where it is wanted and safe, else contiguous.

    Args:
        network: all layers of it count.
        channels_last: whether it is wanted.
    """
    if channels_last and not any(map(_breaks_channels_last, network.modules())):
        return torch.channels_last
    return torch.contiguous_format


def _breaks_channels_last(module: nn.Module) -> bool:
    """Whether a module is unsafe in channels-last layout.

    PyTorch 2.13 on one CPU thread writes outside its memory in the backward pass of a strided 1x1 convolution of fewer
    channels than a vector register holds.
    """
    return (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.stride != (1, 1)
            and module.in_channels < 8)
