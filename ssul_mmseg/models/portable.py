"""A learned network as one function of an image, which other programs can run."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .segmentors import IncrementalSegmentor


class BroadcastPool(nn.Module):
    """A head's pooling over the whole image, repeated at every place, which is what resizing its one pixel gives.

    OpenCV 5 reads outside its memory where it resizes one pixel.

    Args:
        pool: features (B, C, h, w) to (B, D, 1, 1).
    """

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D, h, w)."""
        return self.pool(features).expand(-1, -1, features.shape[2], features.shape[3])


class PortableNetwork(nn.Module):
    """Images to logits: normalisation, network, upsampling, and unknown merged into background where asked for.

    Args:
        model: a learned network; it is put into evaluation mode.
        merge: whether background's logit becomes the larger of background's and unknown's, after upsampling. So the
            largest channel is the label that the network itself predicts; else unknown is the last channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: IncrementalSegmentor, merge: bool) -> None:
        super().__init__()
        self.model = model
        self.model.memory_format = torch.contiguous_format  # other programs have layouts of their own
        self.merge = merge and model.decode_head.has_unknown
        self.keeps_unknown = model.decode_head.has_unknown and not merge
        preprocessor = model.data_preprocessor
        for name, default in (('mean', 0.), ('std', 1.)):
            value = getattr(preprocessor, name, torch.full((3, 1, 1), default))
            self.register_buffer(name, value.detach().clone().view(1, 3, 1, 1))
        # Files are loaded as BGR: a network whose preprocessor swaps nothing has learned from BGR.
        self.swaps = not getattr(preprocessor, '_channel_conversion', False)
        self.eval()  # exporters set the mode that they find here again, for all that is inside

    def broadcast_pool(self) -> None:
        """Put a :class:`BroadcastPool` where the head pools over the whole image, as DeepLab's do."""
        pool = getattr(self.model.decode_head, 'image_pool', None)
        if isinstance(pool, nn.Module):
            self.model.decode_head.image_pool = BroadcastPool(pool)

    def normalised(self, images: Tensor) -> Tensor:
        """What the network sees of images (B, 3, H, W), RGB, 0 to 255."""
        return ((images.flip(1) if self.swaps else images) - self.mean) / self.std

    def grid_logits(self, images: Tensor) -> Tensor:
        """Logits (B, C, h, w) of all channels on the grid of the features."""
        maps = self.model.maps(self.normalised(images))
        return self.model.predicted_logits(self.model.head_features(maps))

    def merged(self, logits: Tensor) -> Tensor:
        """Logits (B, C, H, W) with unknown merged into background, where it is to be."""
        if not self.merge:
            return logits
        background = torch.maximum(logits[:, :1], logits[:, -1:])
        return torch.cat([background, logits[:, 1:-1]], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 (B, C, H, W) of images float32 (B, 3, H, W), RGB, 0 to 255."""
        size = (images.shape[2], images.shape[3])
        align_corners = self.model.decode_head.align_corners
        return self.merged(F.interpolate(self.grid_logits(images), size=size, mode='bilinear',
                                         align_corners=align_corners))
