"""Pooled outputs distillation: maps of a network's stages, reduced to the means of rows and columns of their parts."""
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from mmseg.models.backbones import ResNet
from mmseg.models.backbones.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import InputError
from .efficientnet_lite import EfficientNetLite

SCALES = (1, 2, 4)


def local_pod(x: Tensor, scales: Sequence[int] = SCALES) -> Tensor:
    r"""Local POD embedding of the squares of a map (PLOP, Eq. 3-5).

    At every scale s the map is cut into s x s parts, what does not fit being left out at the right and below; of each
    part and channel, the means over its width and those over its height are kept.

    Args:
        x: float (B, C, h, w).
        scales: into how many parts each side is cut; scales that are longer than a side are left out.

    Returns:
        float32 (B, n), n = C (h + w) at scale 1 alone.
    """
    squares = x.float().square()
    vectors = []
    for scale in scales:
        height, width = x.shape[2] // scale, x.shape[3] // scale
        if min(height, width) > 0:
            parts = squares[:, :, :height * scale, :width * scale].unflatten(3, (scale, width)).unflatten(
                2, (scale, height))
            vectors += [parts.mean(dim=axis).flatten(1) for axis in (3, 5)]
    return torch.cat(vectors, dim=1)


def pod_distance(new: Tensor, old: Tensor) -> Tensor:
    """Euclidean distance of the embeddings (B, n) of each image, its mean over the batch, a scalar."""
    return (new - old).norm(dim=1).mean()


def fold_new_channels(logits: Tensor, num_old: int) -> Tensor:
    """Add the channels of new classes (B, from ``num_old`` on, h, w) to the background's: (B, num_old, h, w)."""
    background = logits[:, :1] + logits[:, num_old:].sum(1, keepdim=True)
    return torch.cat([background, logits[:, 1:num_old]], dim=1)


@contextmanager
def watch_stages(backbone: nn.Module, function: Callable[[Tensor], Tensor]) -> Iterator[dict[str, Tensor]]:
    """Apply a function to the output of each stage of a backbone, before the stage's last activation, as it runs.

    Of mmseg's ResNets these are the sums before the last ReLU of each stage; of EfficientNet-Lite, whose blocks have no
    last activation, the last blocks at strides 4, 8, 16 and 32 of the original; of others, the maps that they return.

    Args:
        backbone: the network that runs inside of the context.
        function: of a map (B, C, h, w); its result is kept, the map is not.

    Yields:
        What the function gave, by the stage's name; empty until the backbone has run.

    Raises:
        InputError: the backbone has run past its stages.
    """
    found: dict[str, Tensor] = {}
    blocks = _last_blocks(backbone)
    with ExitStack() as hooks:
        for name, block in blocks.items():
            for handle in _watch(name, block, function, found):
                hooks.callback(handle.remove)
        yield found
    if len(found) < len(blocks):
        raise InputError(f'the stages of {type(backbone).__name__} are hidden when it is compiled; '
                         'set compile=False')


def count_stages(backbone: nn.Module, num_maps: int) -> int:
    """How many stages :func:`watch_stages` sees of a backbone that returns ``num_maps`` maps."""
    blocks = _last_blocks(backbone)
    return num_maps if backbone in blocks.values() else len(blocks)


def _last_blocks(backbone: nn.Module) -> dict[str, nn.Module]:
    """The last block of each stage of a backbone, by name; the backbone itself where its stages are not known."""
    if isinstance(backbone, ResNet):
        return {name: getattr(backbone, name)[-1] for name in backbone.res_layers}
    if isinstance(backbone, EfficientNetLite):
        return {f'block_{place}': backbone._blocks[place] for place in backbone.pyramid_ends()}
    return {'maps': backbone}


def _watch(name: str, block: nn.Module, function: Callable[[Tensor], Tensor], found: dict[str, Tensor]
           ) -> list[RemovableHandle]:
    """Hook a function to what leaves a block, see :func:`watch_stages`."""
    summed: list[Tensor] = []

    def before_activation(relu: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        # A block uses its ReLU several times; the last is that of its output. It writes in place: let it have a copy.
        summed[:] = inputs
        return (inputs[0].clone(), )

    def after_block(block: nn.Module, inputs: tuple, output: Tensor | Sequence[Tensor]) -> None:
        maps = summed or ([output] if isinstance(output, Tensor) else list(output))
        for place, x in enumerate(maps):
            found[name if len(maps) == 1 else f'{name}_{place}'] = function(x)
        summed.clear()

    handles = [block.register_forward_hook(after_block)]
    if isinstance(block, BasicBlock | Bottleneck):
        handles.append(block.relu.register_forward_pre_hook(before_activation))
    return handles
