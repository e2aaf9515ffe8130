"""From logits to labels: how a segmentor is tested, and where in the network's input an image lies."""
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmseg.structures import SegDataSample
from torch import Tensor

from ..errors import InputError
from ..scenario import BACKGROUND
from .upsampling import upsample, upsampled_argmax

MODES = ('whole', 'slide')
TEST_KEYS = ('mode', 'crop_size', 'stride', 'seg_logits')
FLIPS = {'horizontal': [-1], 'vertical': [-2], 'diagonal': [-2, -1]}
"""Axes that mmcv's RandomFlip turns, by its directions."""


def check_test_cfg(test_cfg: Mapping[str, Any] | None) -> ConfigDict:
    """Complete and check a segmentor's ``test_cfg``.

    Args:
        test_cfg: ``mode`` 'whole' (the default) or 'slide', with ``crop_size`` and ``stride``, each (height, width) in
            pixels; ``seg_logits``, whether samples carry their logits.

    Raises:
        InputError: it holds another key, another mode, or windows that leave pixels out.
    """
    options = ConfigDict({'mode': 'whole', **(test_cfg or {})})
    unknown = sorted(set(options) - set(TEST_KEYS))
    if unknown:
        raise InputError(f'model.test_cfg has no {unknown[0]!r}; its keys are {", ".join(TEST_KEYS)}')
    if options.mode not in MODES:
        raise InputError(f'model.test_cfg.mode is {options.mode!r}; choose one of {", ".join(MODES)}')
    if options.mode == 'slide':
        crop_size, stride = (_pair(options, key) for key in ('crop_size', 'stride'))
        if any(step > side for side, step in zip(crop_size, stride, strict=True)):
            raise InputError(f'model.test_cfg.stride is {tuple(stride)}, which leaves pixels out between windows of '
                             f'{tuple(crop_size)}; set it to at most model.test_cfg.crop_size')
    return options


def _pair(options: Mapping[str, Any], key: str) -> Sequence[int]:
    """Two numbers of pixels.

    Raises:
        InputError: they are none.
    """
    value = options.get(key)
    if not isinstance(value, list | tuple) or [type(side) for side in value] != [int, int] or min(value) < 1:
        raise InputError(f"model.test_cfg.{key} is {value!r}; with mode='slide' it is (height, width) in pixels, such "
                         'as (513, 513)')
    return value


def labels_at_image_size(logits: Tensor, input_size: tuple[int, int], sample: SegDataSample,
                         align_corners: bool) -> Tensor:
    """Channel of the largest logit at each pixel of the prediction.

    Arguments are those of :func:`logits_at_image_size`.

    Returns:
        int64 (1, H, W).
    """
    view, shown, size = _window(input_size, sample)
    if size == shown:
        # The network's input is not resized again: what cannot win need not be upsampled.
        channels = upsampled_argmax(logits, input_size, align_corners)[:, view[0], view[1]]
        return _unflip(channels, sample)
    return logits_at_image_size(logits, input_size, sample, align_corners).argmax(1)


def logits_at_image_size(logits: Tensor, input_size: tuple[int, int], sample: SegDataSample,
                         align_corners: bool) -> Tensor:
    """Logits at the prediction's size, cut from the padding and turned back where the image was flipped.

    Args:
        logits: float (1, C, h, w), of one image.
        input_size: (H, W) of the network's input.
        sample: says where in the input the image lies, and which size the prediction has.
        align_corners: as in :func:`torch.nn.functional.interpolate`.

    Returns:
        float (1, C, H, W).
    """
    view, _, size = _window(input_size, sample)
    scores = upsample(logits, input_size, align_corners)[:, :, view[0], view[1]]
    return upsample(_unflip(scores, sample), size, align_corners)


def add_unknown(scores: Tensor) -> Tensor:
    """Add unknown's score, the last of (B, C, H, W), to the background's; returns (B, C - 1, H, W)."""
    background = scores[:, BACKGROUND] + scores[:, -1]
    return torch.cat([background.unsqueeze(1), scores[:, 1:-1]], dim=1)


def _unflip(scores: Tensor, sample: SegDataSample) -> Tensor:
    """Turn scores or labels (..., H, W) of a flipped image back; those of another image are returned as they are."""
    if not sample.metainfo.get('flip'):
        return scores
    return scores.flip(FLIPS[sample.metainfo['flip_direction']])


def _window(input_size: tuple[int, int], sample: SegDataSample
            ) -> tuple[tuple[slice, slice], tuple[int, int], tuple[int, int]]:
    """Where in the network's input the image lies, how large it is there, and the size of the prediction."""
    left, right, top, bottom = sample.metainfo.get('img_padding_size', sample.metainfo.get('padding_size', [0] * 4))
    view = slice(top, input_size[0] - bottom), slice(left, input_size[1] - right)
    shown = input_size[0] - top - bottom, input_size[1] - left - right
    size = tuple(sample.gt_sem_seg.shape) if 'gt_sem_seg' in sample else sample.metainfo.get('ori_shape', shown)
    return view, shown, tuple(size)
