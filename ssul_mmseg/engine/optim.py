"""Train in bfloat16 mixed precision, on a CPU too, and choose the wrapper that suits the device."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from mmseg.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Mixed precision in bfloat16 on CPU or GPU; its range is that of float32, so no loss is scaled."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass in bfloat16 where that is safe."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


def mixed_precision_wrapper() -> str:
    """Type of the wrapper that suits the device: bfloat16, or float16 with loss scaling on GPUs without it."""
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        return 'AmpOptimWrapper'
    return 'BFloat16OptimWrapper'
