"""Batch normalisation over all processes on a CPU, where PyTorch's SyncBatchNorm does not run."""
import torch
import torch.distributed
from mmengine.dist import is_distributed
from mmengine.registry import MODELS
from torch import Tensor, nn


class SumOfProcesses(torch.autograd.Function):
    """Differentiable all-reduce (sum); its backward pass all-reduces the gradients."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, own: Tensor) -> Tensor:
        """Sum ``own``, of any shape, the same in all processes."""
        total = own.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        """Sum the gradients of all processes."""
        return SumOfProcesses.apply(gradient)


@MODELS.register_module()
class GlooSyncBN(nn.BatchNorm2d):
    """``BatchNorm2d`` whose training statistics are those of the batch of all processes.

    Processes may hold different numbers of images, or none. Statistics and gradients equal those of one process with
    the whole batch, to rounding; they are computed in float32, whatever the input's type.
    """

    # It is built with running statistics and a fixed momentum, BatchNorm's defaults.
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, input: Tensor) -> Tensor:
        """Normalise float (B, C, H, W)."""
        if not self.training or not is_distributed():
            return super().forward(input)
        exact = input.float()
        own = exact.new_tensor([input.numel() / input.shape[1]])
        torch.distributed.all_reduce(own)
        count = own.item()
        mean = SumOfProcesses.apply(exact.sum((0, 2, 3))) / count
        centred = exact - mean[:, None, None]
        variance = SumOfProcesses.apply((centred * centred).sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)
