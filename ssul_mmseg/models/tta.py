"""Test-time augmentation: labels of the mean probabilities of several views of an image."""
from collections.abc import Sequence

from mmengine.structures import PixelData
from mmseg.models import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from ..errors import InputError
from .predicting import check_test_cfg
from .segmentors import IncrementalSegmentor


@MODELS.register_module()
class IncrementalTTAModel(SegTTAModel):
    """Average a segmentor's probabilities over views of an image, and choose labels as the segmentor does.

    Args:
        module: the segmentor, or its config; its samples carry logits from now on.
        data_preprocessor: mmseg's, where a config of a segmentor has none.
    """

    module: IncrementalSegmentor

    def __init__(self, module: IncrementalSegmentor | dict, data_preprocessor: dict | None = None) -> None:
        super().__init__(module, data_preprocessor)
        self.module.test_cfg = check_test_cfg({**self.module.test_cfg, 'seg_logits': True})

    def test_step(self, data: dict) -> list[SegDataSample]:
        """Predict the images of a loaded batch, whose ``inputs`` and ``data_samples`` hold a list for each view."""
        images = zip(zip(*data['inputs'], strict=True), zip(*data['data_samples'], strict=True), strict=True)
        merged: list[SegDataSample] = []
        # Image by image: logits at full resolution of all views of all images would take too much memory.
        for views, samples in images:
            predicted = []
            for view, sample in zip(views, samples, strict=True):
                predicted += self.module.test_step(dict(inputs=[view], data_samples=[sample]))
            merged += self.merge_preds([predicted])
        return merged

    def merge_preds(self, data_samples_list: Sequence[Sequence[SegDataSample]]) -> list[SegDataSample]:
        """Merge the predictions of each image's views.

        Args:
            data_samples_list: per image its views, with ``seg_logits`` float (C, H, W) at one size, turned back where
                they were flipped.

        Returns:
            Per image a sample with ``pred_sem_seg``, uint8 (1, H, W): 0 background, 1..n_seen, UNKNOWN. Its ground
            truth and metainfo are those of the first view.

        Raises:
            InputError: the views of an image are predicted at several sizes.
        """
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: Sequence[SegDataSample]) -> SegDataSample:
        """Merge the predictions of one image's views."""
        first = views[0]
        sizes = sorted({tuple(view.seg_logits.data.shape[1:]) for view in views})
        if len(sizes) > 1:
            name = first.metainfo.get('img_path', 'an image')
            raise InputError(f'the views of {name} are predicted at several sizes, {sizes[0]} and {sizes[1]}; in '
                             'tta_pipeline, load the labels after the image is resized, or resize it with '
                             'ScaleAndFlip, which leaves the labels as they are')
        total = sum(self.module.probabilities(view.seg_logits.data.unsqueeze(0)) for view in views)
        labels = self.module.labels_of_scores(total / len(views))
        merged = SegDataSample(metainfo=first.metainfo, pred_sem_seg=PixelData(data=labels))
        if 'gt_sem_seg' in first:
            merged.gt_sem_seg = first.gt_sem_seg
        return merged
