"""The config of an exported network, of mmseg's own parts: with it mmseg's inferencer and test loop run."""
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmseg.registry import DATASETS, TRANSFORMS

from ..datasets.classes import has_background, metainfo_of
from ..errors import InputError

LOADED = ('LoadImage', 'LoadLabels', 'ShortSideCenterCrop', 'PackSegInputs')
"""Parts of the test pipeline that mmseg has parts of its own for, or that crop; images are predicted whole."""


def stock_config(config: Config, network: dict[str, Any], classes: Sequence[str],
                 palette: Sequence[Sequence[int]]) -> Config:
    """Make the config that an exported checkpoint carries.

    Args:
        config: the task's config.
        network: config of the exported network.
        classes: names by label, background first, without unknown.
        palette: their colours.

    Raises:
        InputError: the test pipeline has a part that mmseg lacks.
    """
    dataset = config.test_dataloader.dataset
    extra = [dict(transform) for transform in dataset.pipeline if transform['type'] not in LOADED]
    for transform in extra:
        if not _is_stock(TRANSFORMS.get(transform['type'])):
            raise InputError(f'the test pipeline has {transform["type"]}, which mmseg does not have; export the '
                             'network with --to onnx or --to torchscript')
    # Pillow's decoder, as in training: OpenCV's gives JPEG other values.
    pipeline = [dict(type='LoadImageFromFile', imdecode_backend='pillow'), *extra, dict(type='LoadAnnotations'),
                dict(type='PackSegInputs')]
    return Config(dict(
        default_scope='mmseg', model=network, test_pipeline=pipeline,
        test_dataloader=dict(
            batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(_stock_dataset(dataset.get('dataset') or {}, config.get('data_root'), classes, palette),
                         pipeline=pipeline)),
        test_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']), test_cfg=dict(type='TestLoop'),
        visualizer=dict(type='SegLocalVisualizer', name='visualizer', vis_backends=[dict(type='LocalVisBackend')])))


def _stock_dataset(dataset: Mapping[str, Any], data_root: str | None, classes: Sequence[str],
                   palette: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Config of the test images' data set, whose masks show an exported network's labels.

    One of mmseg's own that has background as its first class finds the labels of its masks by the classes' names, and
    ignores the others. For any other it is folders of images and of masks that hold the labels themselves.
    """
    metainfo = dict(classes=list(classes), palette=[list(colour) for colour in palette])
    kind = DATASETS.get(dataset['type']) if 'type' in dataset else None
    if kind is not None and _is_stock(kind) and kind.__name__ != 'BaseSegDataset':
        known = metainfo_of({'type': dataset['type']})
        if known.get('classes') and has_background(known):
            return {'data_root': data_root, **dataset, 'metainfo': metainfo}
    folders = dict(img_path='images', seg_map_path='masks')
    return dict(type='BaseSegDataset', data_root=data_root, data_prefix=folders, metainfo=metainfo)


def _is_stock(kind: type) -> bool:
    """Whether a class comes with mmseg or the packages below it."""
    return kind.__module__.partition('.')[0] in ('mmseg', 'mmcv', 'mmengine')
