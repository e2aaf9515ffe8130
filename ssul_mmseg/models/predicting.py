"""From logits to labels: how a segmentor is tested, and where in the network's input an image lies."""
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import ConfigDict
from mmseg.structures import SegDataSample
from torch import Tensor

from ..errors import InputError

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


def unflip(scores: Tensor, sample: SegDataSample) -> Tensor:
    """Turn scores or labels (..., H, W) of a flipped image back; those of another image are returned as they are."""
    if not sample.metainfo.get('flip'):
        return scores
    return scores.flip(FLIPS[sample.metainfo['flip_direction']])
