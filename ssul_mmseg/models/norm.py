"""Batch normalisation over all processes on a CPU, where PyTorch's SyncBatchNorm does not run."""
import torch
import torch.distributed
from mmengine.dist import is_distributed
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


@MODELS.register_module()
class GlooSyncBN(nn.BatchNorm2d):
    """``BatchNorm2d`` whose training statistics are those of the batch of all processes.

    Processes may hold different numbers of images, or none. Statistics and gradients equal those of one process with
    the whole batch, to rounding; they are computed in float32, whatever the input's type.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise float (B, C, H, W)."""
        if not self.training or not is_distributed():
            return super().forward(input)
        exact = input.float()
        own = exact.new_tensor([input.numel() / input.shape[1]])
        torch.distributed.all_reduce(own)
        count = own.item()
        mean = all_reduce(exact.sum((0, 2, 3))) / count
        centred = exact - mean[:, None, None]
        variance = all_reduce((centred * centred).sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)
