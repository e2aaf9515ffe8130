"""Keep beside the labels of a training image what they are made of, to show it."""
import inspect
from collections.abc import Sequence

from mmcv.transforms import BaseTransform
from mmseg.datasets.transforms import PackSegInputs
from mmseg.registry import TRANSFORMS

from ..errors import InputError
from .transforms import LabelAugmentation

FIELDS = ('mask', 'salient')


@TRANSFORMS.register_module()
class KeepLabelSources(BaseTransform):
    """Keep the mask with all its classes, and what is salient, as label maps of their own.

    Scaling, cropping and flipping treat them as they treat the labels. The transform draws no random number and leaves
    image and labels alone, so that a pipeline gives the same with it and without. Runs right before the labels are
    augmented.

    Args:
        saliency: as in :class:`~ssul_mmseg.datasets.transforms.LabelAugmentation`.
    """

    def __init__(self, saliency: str | None) -> None:
        self.augmentation = LabelAugmentation(saliency)

    def transform(self, results: dict) -> dict:
        """Add ``mask``, uint8 (H, W), labels of all classes, and ``salient``, uint8 (H, W), 1 where S(x) is."""
        results['mask'] = results['gt_seg_map'].copy()
        results['salient'] = self.augmentation.salient(results).astype(results['mask'].dtype)
        results['seg_fields'] += FIELDS
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(saliency={self.augmentation.saliency!r})'


def keeping_sources(pipeline: Sequence[dict]) -> list[dict]:
    """A training pipeline whose samples also hold ``img``, ``mask`` and ``salient`` in their metainfo.

    Args:
        pipeline: of a task's config.

    Raises:
        InputError: it loads no labels, or does not end in ``PackSegInputs``.
    """
    types = [transform['type'] for transform in pipeline]
    if 'LoadLabels' not in types or types[-1] != 'PackSegInputs':
        raise InputError('the training pipeline has no LoadLabels, or does not end in PackSegInputs, so its labels '
                         'cannot be shown; build it as configs/_base_/datasets/shapes.py does')
    place, saliency = types.index('LoadLabels') + 1, None
    if 'LabelAugmentation' in types:
        place = types.index('LabelAugmentation')
        saliency = pipeline[place]['saliency']
    packed = pipeline[-1].get('meta_keys') or inspect.signature(PackSegInputs).parameters['meta_keys'].default
    pack = dict(pipeline[-1], meta_keys=(*packed, 'img', *FIELDS))
    return [*pipeline[:place], dict(type='KeepLabelSources', saliency=saliency), *pipeline[place:-1], pack]
