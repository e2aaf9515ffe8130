"""Train in bfloat16 mixed precision, on a CPU too, and choose the wrapper that suits the device; or do not train."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from mmseg.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn
from torch.optim import Optimizer


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


@OPTIMIZERS.register_module()
class NoOptimizer(Optimizer):
    """The optimizer of a task that is solved: it updates nothing, but mmengine's runner needs one.

    Args:
        params: what an optimizer would update.
    """

    def __init__(self, params: object) -> None:
        # Not PyTorch's constructor, which imports its compiler: that takes longer than to solve a small task.
        self.defaults: dict = {}
        self.param_groups: list = []

    def register_step_pre_hook(self, hook: Callable) -> None:  # type: ignore[override]  # nothing to remove again
        """Forget the hook: there is no step."""
