"""Turn a learned network into one of mmseg's own parts, which runs where this package is not installed."""
import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InputError
from .heads import IncrementalHead
from .segmentors import IncrementalSegmentor

OWN_ARGUMENTS = ('type', 'classes_per_task', 'unknown', 'classifier', 'skip', 'projection', 'loss_decode', 'init_cfg')
"""Arguments of an incremental head that mmseg's own heads do not have, or that an export decides."""
PACKAGES = ('torch', 'mmcv', 'mmengine', 'mmseg', 'timm')
"""Packages whose parts a checkpoint may need where it is used."""
SYNCHRONISED = ('SyncBN', 'GlooSyncBN')


def stock_network(model: IncrementalSegmentor, config: Mapping[str, Any], merge: bool) -> tuple[dict, EncoderDecoder]:
    r"""Build the network of mmseg's own parts that computes what a learned network computes.

    The filters of all tasks become one ``conv_seg``. A 1x1 projection becomes the centre of mmseg's 3x3 kernel. A
    sigmoid is monotonous, so the largest logit has the largest score.

    To merge unknown into background, the background's logit becomes :math:`\max(b, u) = b + \mathrm{relu}(u - b)`,
    which no linear filter computes: the network becomes the backbone of a second one, whose head (mmseg's ``DDRHead``,
    with fixed weights) computes it on the grid of the features, before the logits are upsampled.

    Args:
        model: a learned network.
        config: its config, ``model`` of the task's config.
        merge: whether unknown is merged into background; else it is the last channel.

    Returns:
        The config of the new network, and the network in evaluation mode.

    Raises:
        InputError: a part of the network is not mmseg's, or its classifiers are no filters on the features.
    """
    head = model.decode_head
    merge = merge and head.has_unknown
    weight, bias = merged_filters(head)
    if merge:
        weight, bias = _signed(weight), _signed(bias)
    inner = _stock_config(model, config, len(bias))
    network = _build(inner)
    _load(network, model, weight, bias)
    if merge:
        preprocessor, test_cfg = inner.pop('data_preprocessor'), inner.pop('test_cfg')
        inner = dict(type='EncoderDecoder', data_preprocessor=preprocessor, backbone=inner,
                     decode_head=_merging_config(head), test_cfg=test_cfg)
        outer = _build(inner)
        outer.backbone.load_state_dict(network.state_dict())
        _set_merging(outer.decode_head)
        network = outer
    return inner, network.eval()


def merged_filters(head: IncrementalHead) -> tuple[Tensor, Tensor]:
    """Weight (C, channels, 1, 1) and bias (C,) of all classifiers, in the order of the logit channels.

    Raises:
        InputError: the classifiers are more than one filter per class.
    """
    layers = [len(list(classifier.children())) for classifier in head.classifiers.values()]
    if max(layers) > 1 or set(head.classifiers) != set(head.names):
        raise InputError(f'the classifiers of this network are {head.classifier!r}: more than one filter per class on '
                         'the features, which the heads of mmseg lack; export it with --to onnx or --to torchscript')
    weights, biases = zip(*((head.filters(name).weight, head.biases(name)) for name in head.names), strict=True)
    return torch.cat(weights).detach(), torch.cat(biases).detach()


def _signed(filters: Tensor) -> Tensor:
    """Filters of [background, classes], the same with their signs changed, and unknown minus background.

    A ReLU keeps the positive part of each: no logit is lost, and the last is what unknown adds to background.
    """
    classes, background, unknown = filters[:-1], filters[:1], filters[-1:]
    return torch.cat([classes, -classes, unknown - background])


def _stock_config(model: IncrementalSegmentor, config: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """Config of mmseg's ``EncoderDecoder`` with the network's backbone, neck and head."""
    head = model.decode_head
    stock = next(kind for kind in type(head).__mro__
                 if issubclass(kind, BaseDecodeHead) and not issubclass(kind, IncrementalHead))
    arguments = {key: value for key, value in config['decode_head'].items() if key not in OWN_ARGUMENTS}
    backbone = dict(config['backbone'])
    if 'init_cfg' in backbone:
        backbone['init_cfg'] = None
    if 'pretrained' in backbone:  # a name, or, for timm's networks, whether to fetch weights
        backbone['pretrained'] = False if isinstance(backbone['pretrained'], bool) else None
    parts = dict(
        type='EncoderDecoder', data_preprocessor=config.get('data_preprocessor'), backbone=backbone,
        neck=config.get('neck'),
        decode_head=dict(type=stock.__name__, **arguments, num_classes=num_classes, loss_decode=_loss(head)),
        test_cfg={key: value for key, value in model.test_cfg.items() if key != 'seg_logits'})
    return {key: _plain(value) for key, value in parts.items() if value is not None}


def _loss(head: IncrementalHead) -> dict[str, Any]:
    """The loss that the network was trained with, in mmseg's words: for those who train on."""
    return dict(type='CrossEntropyLoss', use_sigmoid=head.independent_channels, avg_non_ignore=True)


def _plain(value: Any) -> Any:
    """A deep copy of a config's part in plain dicts and lists, with a BatchNorm that one process can train."""
    if isinstance(value, Mapping):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return 'BN' if value in SYNCHRONISED else copy.deepcopy(value)


def _build(config: dict[str, Any]) -> EncoderDecoder:
    """Build a network, and refuse parts that mmseg alone does not have."""
    network = MODELS.build(ConfigDict(copy.deepcopy(config)))
    for name, module in network.named_modules():
        package = type(module).__module__.partition('.')[0]
        if package not in PACKAGES:
            raise InputError(f'{name} is a {type(module).__name__} of {package}, which mmseg does not have; export the '
                             'network with --to onnx or --to torchscript')
    return network


def _load(network: nn.Module, model: IncrementalSegmentor, weight: Tensor, bias: Tensor) -> None:
    """Fill mmseg's network with the learned one's weights and the merged filters.

    Raises:
        InputError: the head has layers of its own.
    """
    own = model.trunk_state()
    own.update({'decode_head.conv_seg.weight': weight, 'decode_head.conv_seg.bias': bias})
    wanted = network.state_dict()
    odd = sorted(own.keys() ^ wanted.keys())
    fitted = {key: _centred(own[key], value.shape) for key, value in wanted.items() if key in own}
    odd += [key for key, value in fitted.items() if value.shape != wanted[key].shape]
    if odd:
        ours, theirs = type(model.decode_head).__name__, type(network.decode_head).__name__
        raise InputError(f"{ours} has other layers than mmseg's {theirs} ({odd[0]}); export the network with --to onnx "
                         'or --to torchscript')
    network.load_state_dict(fitted)


def _centred(kernel: Tensor, shape: Sequence[int]) -> Tensor:
    """A 1x1 kernel in the centre of one of a larger odd side, which computes the same; any other as it is."""
    if kernel.shape == tuple(shape) or kernel.dim() != 4 or kernel.shape[2:] != (1, 1):
        return kernel
    large = kernel.new_zeros(*kernel.shape[:2], *shape[2:])
    large[:, :, shape[2] // 2, shape[3] // 2] = kernel[:, :, 0, 0]
    return large


def _merging_config(head: IncrementalHead) -> dict[str, Any]:
    """Config of the head that merges unknown, on signed logits."""
    num_classes = head.num_seen + 1
    signed = 2 * num_classes + 1
    return dict(type='DDRHead', in_channels=signed, channels=signed, num_classes=num_classes, dropout_ratio=0,
                norm_cfg=dict(type='BN'), loss_decode=_loss(head), align_corners=head.align_corners)


def _set_merging(head: Any) -> None:
    """Set the weights of the head that merges unknown: normalisation, ReLU, 3x3 convolution, the same again, filters.

    All but the filters hand on the positive parts as they are. The filters subtract what was negative, and add what
    unknown has more than background to background.
    """
    for layer in head.modules():
        if isinstance(layer, _BatchNorm):
            layer.reset_parameters()
            # The layer adds eps to the variance before it takes the root.
            layer.running_var = torch.full((layer.num_features, ), 1 - layer.eps)
    for layer in (parameter for parameter in head.parameters() if parameter.dim() == 4):
        nn.init.zeros_(layer)
    with torch.no_grad():
        for convolution in (head.head[0].conv, head.conv_seg, head.aux_cls_seg):
            if convolution.bias is not None:
                convolution.bias.zero_()
        identity = torch.eye(head.channels)
        head.head[0].conv.weight[:, :, 1, 1] = identity
        classes = identity[:head.num_classes] - identity[head.num_classes:2 * head.num_classes]
        classes[0] += identity[-1]
        head.conv_seg.weight[:, :, 0, 0] = classes
