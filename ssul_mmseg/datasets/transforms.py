"""From files to augmented labels: loading, SSUL's label augmentation (Eq. 1, rows 1, 3, 4), scaling, cropping."""
import random
from pathlib import Path

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms import LoadImageFromFile as LoadImageFromFileBase
from mmseg.registry import TRANSFORMS
from PIL import Image

from ..errors import InputError
from ..scenario import BACKGROUND, IGNORE, UNKNOWN
from .masks import read_mask

DEEP_MODES = ('I', 'F')
"""How Pillow's modes of more than 8 bits a channel begin."""
SALIENCY = ('map', 'ground_truth', 'all')
REMEDY = ('save the map of any salient-object detector there as an 8-bit PNG with one channel (non-zero: salient), or '
          'set saliency=ground_truth, or saliency=None for no unknown pixels')


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFileBase):
    """Load a colour image whole: Pillow refuses a truncated file, where OpenCV fills the rest with grey."""

    def __init__(self) -> None:
        super().__init__(imdecode_backend='pillow')

    def transform(self, results: dict) -> dict:
        """Add ``img`` (H, W, 3) uint8 BGR, ``img_shape`` and ``ori_shape``."""
        path = results['img_path']
        try:
            with Image.open(path) as image:
                if image.mode.startswith(DEEP_MODES):
                    raise ValueError(f'it is {image.mode}, of more than 8 bits a channel')  # Pillow would cut them off
            return super().transform(results)
        except FileNotFoundError as error:
            raise InputError(f'image {path} is missing; restore it or remove it from the image list') from error
        except Exception as error:  # decoders of damaged files raise almost anything
            raise InputError(f'image {path} cannot be read ({error}); replace it with a whole file') from error


@TRANSFORMS.register_module()
class LoadLabels(BaseTransform):
    """Load a mask as labels in the order of learning.

    Needs ``seg_map_path`` and ``label_table`` (int16 (256,), mask value to label, negative: no class of the data set).
    """

    def transform(self, results: dict) -> dict:
        """Add ``gt_seg_map`` uint8 (H, W): background 0, classes 1..N, IGNORE.

        Raises:
            InputError: the mask is missing, damaged, of another size than its image, or holds a value of no class.
        """
        path = results['seg_map_path']
        mask = read_mask(path)
        if 'img' in results and mask.shape != tuple(results['ori_shape']):
            raise InputError(f'mask {path} is {mask.shape[1]} x {mask.shape[0]} pixels, but its image is '
                             f'{results["ori_shape"][1]} x {results["ori_shape"][0]}; they must be of one size')
        labels = results['label_table'][mask]
        if labels.min(initial=0) < 0:
            raise InputError(f'mask {path} holds the value {mask[labels < 0][0]}, which is no class of the data set; '
                             'correct the mask, or mark such pixels 255 to ignore them')
        results['gt_seg_map'] = labels.astype(np.uint8)
        results['seg_fields'].append('gt_seg_map')
        return results


@TRANSFORMS.register_module()
class LabelAugmentation(BaseTransform):
    r"""Hide the classes that the task does not label and mark foreground as unknown (SSUL, Eq. 1, rows 1, 3, 4).

    .. math:: \tilde y_i = y_i \text{ if } y_i \in C_t; \quad c_u \text{ if } y_i = c_b \wedge S(x)_i = 1;
              \quad c_b \text{ else}

    The pseudo-label row belongs to the model, which knows the old classes. Runs right after the labels are loaded.
    Needs ``labelled`` (the labels that this image shows).

    Args:
        saliency: S. 'map': the file ``saliency_path``, one channel, any non-zero value is salient (the paper's VOC);
            'ground_truth': pixels of hidden classes (the paper's upper bound); 'all': every pixel that shows no class
            (the paper's ADE20K); None: nothing is unknown (fine-tuning, and the ablation of Table 3).

    Raises:
        InputError: ``saliency`` is none of these.
    """

    def __init__(self, saliency: str | None = 'map') -> None:
        if saliency is not None and saliency not in SALIENCY:
            raise InputError(f'LabelAugmentation.saliency is {saliency!r}; choose one of {", ".join(SALIENCY)} or None')
        self.saliency = saliency

    def transform(self, results: dict) -> dict:
        """Replace ``gt_seg_map``, uint8 (H, W), by augmented labels: 0, the labelled classes, UNKNOWN and IGNORE.

        Raises:
            InputError: the saliency map is missing, damaged, or of another size than the labels.
        """
        labels = results['gt_seg_map']
        labelled = results['labelled']
        table = np.full(256, BACKGROUND, dtype=np.uint8)
        if self.saliency == 'ground_truth':
            table[BACKGROUND + 1:] = UNKNOWN
        elif self.saliency == 'all':
            table[:] = UNKNOWN
        table[list(labelled)] = labelled
        table[IGNORE] = IGNORE
        augmented = table[labels]
        if self.saliency == 'map':
            augmented[(augmented == BACKGROUND) & self._salient(results)] = UNKNOWN
        results['gt_seg_map'] = augmented
        return results

    @staticmethod
    def check(path: str) -> None:
        """Raise an :class:`InputError` if there is no saliency map."""
        if not Path(path).is_file():
            raise InputError(f'saliency map {path} is missing; {REMEDY}')

    def _salient(self, results: dict) -> np.ndarray:
        """Bool (H, W) from the saliency map's file."""
        path = results['saliency_path']
        self.check(path)
        salient = read_mask(path, 'saliency map') > 0
        if salient.shape != results['gt_seg_map'].shape:
            raise InputError(f'saliency map {path} is {salient.shape[1]} x {salient.shape[0]} pixels, but its image is '
                             f'{results["gt_seg_map"].shape[1]} x {results["gt_seg_map"].shape[0]}; {REMEDY}')
        return salient

    def __repr__(self) -> str:
        return f'{type(self).__name__}(saliency={self.saliency!r})'


@TRANSFORMS.register_module()
class RandomScale(BaseTransform):
    """Scale image and labels by one factor, drawn uniformly (DeepLab-v3: 0.5 to 2 times the image's own size).

    Args:
        scale: smallest and largest factor.
    """

    def __init__(self, scale: tuple[float, float] = (0.5, 2.0)) -> None:
        self.scale = tuple(scale)

    def transform(self, results: dict) -> dict:
        """Resize ``img`` (bilinear) and ``gt_seg_map`` (nearest)."""
        factor = random.uniform(*self.scale)
        height, width = (max(1, round(side * factor)) for side in results['img'].shape[:2])
        results['img'] = mmcv.imresize(results['img'], (width, height))
        results['gt_seg_map'] = mmcv.imresize(results['gt_seg_map'], (width, height), interpolation='nearest')
        results['img_shape'] = height, width
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale})'


@TRANSFORMS.register_module()
class ShortSideCenterCrop(BaseTransform):
    """Resize the short side, then crop the centre square: the test protocol of the field's tables.

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
        factor = self.size / min(height, width)
        height, width = max(self.size, round(height * factor)), max(self.size, round(width * factor))
        top, left = (height - self.size) // 2, (width - self.size) // 2
        window = slice(top, top + self.size), slice(left, left + self.size)
        results['img'] = mmcv.imresize(results['img'], (width, height))[window]
        results['gt_seg_map'] = mmcv.imresize(results['gt_seg_map'], (width, height), interpolation='nearest')[window]
        results['img_shape'] = self.size, self.size
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size})'
