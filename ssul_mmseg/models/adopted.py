"""Take over what a plain mmseg network has learned: its trunk and its filters."""
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InputError
from .segmentors import IncrementalSegmentor

FILTERS = 'decode_head.conv_seg'
BOTTLENECK = 'decode_head.bottleneck.conv.weight'
HEADS = 'ASPPHead, DepthwiseSeparableASPPHead, FCNHead, PSPHead, SegformerHead or UPerHead'
SKIP_NORM = 'decode_head.skip_norm.'
LARGEST_DIFFERENCE = 1e-3
"""Of logits, in units of the largest logit where that is above 1."""


def check_adoptable(model: IncrementalSegmentor, has_images: bool) -> None:
    """Refuse a network that cannot take over filters of a softmax.

    Args:
        model: the network.
        has_images: whether there are images to calibrate it on.

    Raises:
        InputError: it has auxiliary heads, other classifiers than filters, or a softmax of its own; or it has ``skip``
            and there are no images.
    """
    if model.with_auxiliary_head:
        raise InputError('model.auxiliary_head helps a trunk to learn, and an adopted one has learned; set '
                         'model.auxiliary_head=None')
    if model.decode_head.classifier != 'linear':
        raise InputError(f'model.decode_head.classifier is {model.decode_head.classifier!r}, but a plain network has '
                         'one filter per class; set it to linear')
    if not model.decode_head.independent_channels:
        raise InputError('model.decode_head.loss_decode trains a softmax, but adoption brings scores to the scale of '
                         'sigmoids; give the config of a method that trains sigmoids, such as ssul/voc_15-1')
    if model.decode_head.skip and not has_images:
        raise InputError("model.decode_head.skip normalises the backbone's map as it is on images, and there are none: "
                         'give some with --images FOLDER, or set model.decode_head.skip=False')


def split_filters(state: Mapping[str, Tensor], file: str) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Take the filters out of a plain network's weights.

    Args:
        state: its state dict.
        file: where it comes from, for messages.

    Returns:
        The weights below the classifier, the filters (K, d) and biases (K,).

    Raises:
        InputError: there are no such filters.
    """
    if any(key.startswith('decode_head.classifiers.') for key in state):
        raise InputError(f'{file} is of a run of this package, which needs no adoption; add classes to that run with '
                         'ssul train --start-from, or ssul add-class')
    weight, bias = state.get(f'{FILTERS}.weight'), state.get(f'{FILTERS}.bias')
    if weight is None or bias is None or weight.shape[2:] != (1, 1) or len(weight) < 2:
        raise InputError(f'the head of {file} cannot be adopted: it has no {FILTERS} of two or more 1x1 filters; give '
                         f"a checkpoint of mmseg's EncoderDecoder whose head is {HEADS}")
    trunk = {key: value for key, value in state.items() if not key.startswith((f'{FILTERS}.', 'auxiliary_head.'))}
    return trunk, weight.float().flatten(1), bias.float()


def load_trunk(model: IncrementalSegmentor, trunk: Mapping[str, Tensor], file: str, config: str | None) -> None:
    """Load a plain network's weights below the classifier; it has no map of the backbone beside the head's features.

    Args:
        model: the network that takes them over.
        trunk: the weights.
        file: where they come from, for messages.
        config: file of the network's config, for messages.

    Raises:
        InputError: a weight is missing, unknown or of another shape.
    """
    own = {key: value for key, value in model.trunk_state().items() if not key.startswith(SKIP_NORM)}
    # Counters and tables of indices are not learned: some files lack them.
    faults = [f'{key} is missing there' for key, value in own.items() if value.is_floating_point() and key not in trunk]
    faults += [f'{key} of it is missing here' for key, value in trunk.items()
               if value.is_floating_point() and key not in own]
    for key in own.keys() & trunk.keys():
        if own[key].shape != trunk[key].shape:
            fault = f'{key} has the shape {tuple(trunk[key].shape)} there and {tuple(own[key].shape)} here'
            if key == BOTTLENECK and trunk[key].shape[2:] == (3, 3):
                fault += "; mmseg's ASPPHead projects by 3x3: set model.decode_head.projection=3"
            faults.insert(0, fault)
    if faults:
        raise InputError(f'{file} does not fit the network of {config}: {faults[0]}; describe the same backbone, neck '
                         'and head in the config')
    model.load_state_dict({**model.state_dict(), **{key: value for key, value in trunk.items() if key in own}})


def widen_filters(model: IncrementalSegmentor, weight: Tensor) -> Tensor:
    """A plain network's filters (K, d) as (K, feature_channels), 0 for the backbone's map beside the features."""
    return F.pad(weight, (0, model.decode_head.feature_channels - weight.shape[1]))


@torch.no_grad()
def normalise_skip(model: IncrementalSegmentor, features: Sequence[Tensor]) -> list[Tensor]:
    """Normalise the backbone's map beside the head's features, if it is there, by its mean and variance in some cells.

    Args:
        model: a network that has normalised nothing yet: mean 0, variance 1.
        features: its features, float32 (N, feature_channels) each.

    Returns:
        What its features are from now on.
    """
    if not model.decode_head.skip:
        return list(features)
    norm, beside = cast(_BatchNorm, model.decode_head.skip_norm), slice(model.decode_head.channels, None)
    variance, mean = torch.var_mean(torch.cat([cells[:, beside] for cells in features]), dim=0)
    cast(Tensor, norm.running_mean).copy_(mean)
    cast(Tensor, norm.running_var).copy_(variance)
    normalised = []
    for cells in features:
        maps = (cells[:, beside] - mean) / (variance + norm.eps).sqrt()
        normalised.append(torch.cat([cells[:, :beside.start], maps], dim=1))
    return normalised


@torch.no_grad()
def set_filters(model: IncrementalSegmentor, weight: Tensor, bias: Tensor) -> None:
    """Set the filters (C, d) and biases (C,) of all channels, background first and unknown, if there is one, last."""
    head = model.decode_head
    for name in head.names:
        channels = head.channels_of([name])
        filters = head.filters(name)
        filters.weight.copy_(weight[channels].view_as(filters.weight))
        head.biases(name).copy_(bias[channels])


def build_plain(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> EncoderDecoder:
    """Build the plain network that a checkpoint's own config describes, with its weights, in evaluation mode.

    Raises:
        Exception: the config names what is not installed; almost any.
    """
    parts = ConfigDict(dict(config, pretrained=None, init_cfg=None, auxiliary_head=None))
    for part in parts.values():
        if isinstance(part, dict) and 'init_cfg' in part:
            part['init_cfg'] = None
    network = MODELS.build(parts)
    network.load_state_dict({key: value for key, value in state.items() if not key.startswith('auxiliary_head.')})
    return network.eval()


@torch.no_grad()
def difference(model: IncrementalSegmentor, plain: EncoderDecoder, weight: Tensor, bias: Tensor) -> str | None:
    """Say in what the network that has taken over a trunk differs from the plain one, or None.

    Weights of equal shapes may belong to layers of other strides or dilations, and images may be normalised otherwise.

    Args:
        model: the network with the plain one's trunk.
        plain: the plain network.
        weight: its filters (K, d).
        bias: their biases (K,).
    """
    for key in ('mean', 'std', '_channel_conversion'):
        ours, theirs = (getattr(network.data_preprocessor, key, None) for network in (model, plain))
        if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
            ours, theirs = ours.tolist(), theirs.tolist()
        if ours != theirs:
            name = 'bgr_to_rgb' if key == '_channel_conversion' else key
            return f'its data_preprocessor has another {name}'
    if plain.align_corners != model.decode_head.align_corners:
        return 'its head has another align_corners'
    images = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    expected = plain(images)
    found = F.conv2d(model.eval().trunk(images), weight[:, :, None, None], bias)
    scale = expected.abs().max().clamp(min=1)
    if found.shape != expected.shape or (found - expected).abs().max() > LARGEST_DIFFERENCE * scale:
        return 'it computes other logits from the same weights: strides, dilations or other values differ'
    return None
