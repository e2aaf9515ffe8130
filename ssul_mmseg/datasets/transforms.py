"""Turn files into augmented labels: load, augment labels as SSUL does (Eq. 1, rows 1, 3, 4), scale, crop."""
import io
import logging
import math
import random
from collections.abc import Iterable, Sequence
from functools import cache
from numbers import Real
from pathlib import Path

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose
from mmengine.logging import print_log
from mmseg.registry import TRANSFORMS
from PIL import Image

from ..errors import InputError
from ..scenario import BACKGROUND, IGNORE, UNKNOWN
from .image_files import SIDEWAYS, UPRIGHT, as_shown, decoding_faults, exif_orientation, is_deep, read_file
from .masks import read_mask

SALIENCY = ('map', 'ground_truth', 'all')
OF_LABELLED_FILES = ('LoadImage', 'LoadLabels', 'ShortSideCenterCrop')
"""Transforms of a test pipeline that load an image and its mask, or leave a part of both out."""
REMEDY = ('make all maps with ssul make-saliency, or save those of any salient-object detector there as 8-bit PNGs '
          'with one channel (non-zero: salient), or set saliency=ground_truth, or saliency=None for no unknown pixels')


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load a colour image by Pillow, which refuses a truncated file where OpenCV fills it up; turn it as EXIF says."""

    def transform(self, results: dict) -> dict:
        """Add ``img`` (H, W, 3) uint8 BGR, ``img_shape``, ``ori_shape`` and ``exif_orientation``.

        Raises:
            InputError: the image is missing, damaged, too large, or has more than 8 bits a channel.
        """
        path = results['img_path']
        content = read_file(path, 'image')
        with decoding_faults(path, 'image'):
            with Image.open(io.BytesIO(content)) as image:
                if is_deep(image, content):
                    raise InputError(f'image {path} has more than 8 bits a channel ({image.mode}), which would be cut '
                                     'off; convert it to 8 bits')
                results['exif_orientation'] = exif_orientation(image, content)
            results['img'] = mmcv.imfrombytes(content, backend='pillow')
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadLabels(BaseTransform):
    """Load a mask as labels in the order of learning, turned as its image is.

    Needs ``seg_map_path`` and ``label_table`` (int16 (256,), mask value to label, negative: no class of the data set).
    """

    def transform(self, results: dict) -> dict:
        """Add ``gt_seg_map`` uint8 (H, W): background 0, classes 1..N, IGNORE.

        Raises:
            InputError: the mask is missing, damaged, of another size than its image, or holds a value of no class.
        """
        path = results['seg_map_path']
        mask = read_mask(path)
        if 'img' in results:
            mask = _fit(mask, path, 'mask', results)
        labels = results['label_table'][mask]
        if labels.min(initial=0) < 0:
            raise InputError(f'mask {path} holds the value {mask[labels < 0][0]}, which is no class of the data set; '
                             'correct the mask, or mark such pixels 255 to ignore them')
        results['gt_seg_map'] = labels.astype(np.uint8)
        results['seg_fields'].append('gt_seg_map')
        return results


def _fit(mask: np.ndarray, path: str, what: str, results: dict) -> np.ndarray:
    """Turn a mask as EXIF turns its image: a mask belongs to the image's pixels as they are stored.

    Args:
        mask: uint8 (H, W).
        path: its file.
        what: what a message calls it.
        results: the image's results; ``ori_shape`` is its size as shown.

    Raises:
        InputError: the mask is of another size than the stored image.
    """
    orientation = results.get('exif_orientation', UPRIGHT)
    shown = tuple(results['ori_shape'])
    height, width = shown[::-1] if orientation in SIDEWAYS else shown
    if mask.shape != (height, width):
        remedy = 'they must be of one size'
        if mask.shape == (width, height):
            remedy += (': a mask belongs to the pixels as they are stored, before EXIF turns the photograph; store the '
                       'photograph as it is shown, without its EXIF orientation (mogrify -auto-orient), or turn the '
                       'mask')
        raise InputError(f'{what} {path} is {mask.shape[1]} x {mask.shape[0]} pixels, but its image is {width} x '
                         f'{height}; {remedy}')
    if orientation != UPRIGHT:
        _warn_of_turned_masks()
    return as_shown(mask, orientation)


@cache  # once a process
def _warn_of_turned_masks() -> None:
    """Warn that masks are turned: for a mask drawn on the photograph as shown, half a turn leaves the size as it is."""
    print_log('some images are turned by EXIF; their masks are taken for those of the pixels as they are stored, and '
              'turned too', logger='current', level=logging.WARNING)


@TRANSFORMS.register_module()
class LabelAugmentation(BaseTransform):
    r"""Hide the classes that the task does not label and mark foreground as unknown (SSUL, Eq. 1, rows 1, 3, 4).

    .. math:: \tilde y_i = y_i \text{ if } y_i \in C_t; \quad c_u \text{ if } y_i = c_b \wedge S(x)_i = 1;
              \quad c_b \text{ else}

    The pseudo-label row belongs to the model, which knows the old classes. Runs right after the labels are loaded.
    Needs ``labelled`` (the labels that this image shows); with ``off_by_one`` the image gets the labels of
    :func:`off_by_one` instead.

    Args:
        saliency: S. 'map': the file ``saliency_path``, one channel, any non-zero value is salient (the paper's VOC);
            'ground_truth': pixels of hidden classes (the paper's upper bound); 'all': every pixel that shows no class
            (the paper's ADE20K); None: nothing is unknown (fine-tuning, and the ablation of Table 3).

    Raises:
        InputError: ``saliency`` is none of these.
    """

    def __init__(self, saliency: str | None = 'map') -> None:
        if saliency is not None and saliency not in SALIENCY:
            raise InputError(f'saliency is {saliency!r}; choose one of {", ".join(SALIENCY)} or None')
        self.saliency = saliency

    def transform(self, results: dict) -> dict:
        """Replace ``gt_seg_map``, uint8 (H, W), by augmented labels: 0, the labelled classes, UNKNOWN and IGNORE.

        Raises:
            InputError: the saliency map is missing, damaged, or of another size than the labels.
        """
        labels = results['gt_seg_map']
        labelled = results['labelled']
        if results.get('off_by_one'):
            results['gt_seg_map'] = off_by_one(labels, labelled)
            return results
        table = np.full(256, BACKGROUND, dtype=np.uint8)
        table[list(labelled)] = labelled
        table[IGNORE] = IGNORE
        augmented = table[labels]
        if self.saliency is not None:
            augmented[(augmented == BACKGROUND) & self.salient(results)] = UNKNOWN
        results['gt_seg_map'] = augmented
        return results

    def salient(self, results: dict) -> np.ndarray:
        """S(x), bool (H, W), of an image whose labels are loaded and not yet augmented.

        Raises:
            InputError: the saliency map is missing, damaged, or of another size than the labels.
        """
        labels = results['gt_seg_map']
        if self.saliency == 'map':
            return self._mapped(results)
        if self.saliency == 'ground_truth':
            return (labels != BACKGROUND) & (labels != IGNORE)
        return np.full(labels.shape, self.saliency == 'all')

    @staticmethod
    def check(path: str) -> None:
        """Raise an :class:`.InputError` if there is no saliency map."""
        if not Path(path).is_file():
            raise InputError(f'saliency map {path} is missing; {REMEDY}')

    def _mapped(self, results: dict) -> np.ndarray:
        """Bool (H, W) from the saliency map's file."""
        path = results['saliency_path']
        self.check(path)
        salient = read_mask(path, 'saliency map')
        # Runs right after the labels are loaded, which have the size of the image.
        return _fit(salient, path, 'saliency map', dict(results, ori_shape=results['gt_seg_map'].shape)) > 0

    def __repr__(self) -> str:
        return f'{type(self).__name__}(saliency={self.saliency!r})'


def off_by_one(labels: np.ndarray, labelled: Sequence[int]) -> np.ndarray:
    """Label an exemplar as the authors' code does, for the study of its published numbers.

    Its channels are [unknown, background, class 1, ...]. It shifts the labels of the task's own images for the unknown
    channel, those of exemplars not: class k is learned as class k - 1, class 1 as background, background as unknown;
    without saliency maps.

    Args:
        labels: uint8 (H, W) in the order of learning.
        labelled: the labels that the exemplar shows.

    Returns:
        uint8 (H, W).

    Example:
        >>> off_by_one(np.array([[0, 1, 2, 3, 255]], dtype=np.uint8), labelled=[1, 2])
        array([[254,   0,   1, 254, 255]], dtype=uint8)
    """
    table = np.full(256, UNKNOWN, dtype=np.uint8)
    table[list(labelled)] = [label - 1 for label in labelled]
    table[IGNORE] = IGNORE
    return table[labels]


@TRANSFORMS.register_module()
class RandomScale(BaseTransform):
    """Scale image and labels by one factor, drawn uniformly (DeepLab-v3: 0.5 to 2 times the image's own size).

    Args:
        scale: smallest and largest factor, above 0.

    Raises:
        InputError: ``scale`` is no such pair.
    """

    def __init__(self, scale: tuple[float, float] = (0.5, 2.0)) -> None:
        factors = list(scale) if isinstance(scale, Iterable) else []
        if len(factors) != 2 or not all(isinstance(x, Real) and 0 < x < math.inf for x in factors):
            raise InputError(f'scale of RandomScale is {scale!r}; give the smallest and the largest factor, both above '
                             '0, such as (0.5, 2.0)')
        self.scale = tuple(factors)

    def transform(self, results: dict) -> dict:
        """Resize ``img`` (bilinear) and the label maps of ``seg_fields`` (nearest)."""
        factor = random.uniform(*self.scale)
        # At least two pixels: numpy's flip leaves a side of one pixel with a negative stride, which PyTorch refuses.
        height, width = (max(2, round(side * factor)) for side in results['img'].shape[:2])
        results['img'] = mmcv.imresize(results['img'], (width, height))
        for key in results['seg_fields']:
            results[key] = mmcv.imresize(results[key], (width, height), interpolation='nearest')
        results['img_shape'] = height, width
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale})'


@TRANSFORMS.register_module()
class ShortSideCenterCrop(BaseTransform):
    """Resize the short side, then crop the centre square: the test protocol of the field's tables.

    The window is that of torchvision's Resize and CenterCrop, which the authors' code uses: the long side is
    int(size * long / short), and the crop begins at int(round((side - size) / 2)), rounded half to even.

    Args:
        size: side of the square, in pixels; None leaves images whole.
    """

    def __init__(self, size: int | None = 513) -> None:
        self.size = size

    def transform(self, results: dict) -> dict:
        """Resize and crop ``img`` (bilinear) and ``gt_seg_map`` (nearest) to (size, size)."""
        if self.size is None:
            return results
        height, width = results['img'].shape[:2]
        short = min(height, width)
        height, width = (int(self.size * side / short) for side in (height, width))
        top, left = (round((side - self.size) / 2) for side in (height, width))
        window = slice(top, top + self.size), slice(left, left + self.size)
        results['img'] = mmcv.imresize(results['img'], (width, height))[window]
        results['gt_seg_map'] = mmcv.imresize(results['gt_seg_map'], (width, height), interpolation='nearest')[window]
        results['img_shape'] = self.size, self.size
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size})'


@TRANSFORMS.register_module()
class ScaleAndFlip(BaseTransform):
    """One view of a test image for test-time augmentation; labels stay as they are, for predictions return to them.

    Args:
        scale: factor of both sides.
        flip: whether left and right change places.
    """

    def __init__(self, scale: float = 1., flip: bool = False) -> None:
        self.scale = scale
        self.flip = flip

    def transform(self, results: dict) -> dict:
        """Resize (bilinear) and flip ``img``; note ``flip`` and ``flip_direction``, which the network undoes."""
        height, width = (max(1, round(side * self.scale)) for side in results['img'].shape[:2])
        results['img'] = mmcv.imresize(results['img'], (width, height))
        results['img_shape'] = height, width
        results['flip'], results['flip_direction'] = self.flip, 'horizontal' if self.flip else None
        if self.flip:
            # A copy: PyTorch refuses the negative stride of an image one pixel wide.
            results['img'] = mmcv.imflip(results['img']).copy()
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale}, flip={self.flip})'


def whole_image_pipeline(pipeline: Sequence[dict]) -> Compose:
    """What a test pipeline does with an image that is loaded already, has no mask, and is seen whole.

    Args:
        pipeline: of a task's config.
    """
    return Compose([transform for transform in pipeline if transform['type'] not in OF_LABELLED_FILES])
