"""The config that an exported checkpoint carries names parts of mmseg alone."""
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine.stock_config import stock_config
from ssul_mmseg.errors import InputError

CLASSES, PALETTE = ['background', 'dog', 'cat'], [[0, 0, 0], [1, 2, 3], [4, 5, 6]]


def test_the_test_images_show_the_networks_labels_in_the_order_of_learning(tmp_path):
    voc_tree(tmp_path / 'voc', 12)
    cfg = stock_config(tiny_config(tmp_path / 'voc', tmp_path), dict(type='EncoderDecoder'), CLASSES, PALETTE)
    assert 'ssul_mmseg' not in cfg.pretty_text and [part['type'] for part in cfg.test_pipeline] == [
        'LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs']
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    assert len(dataset) == 12 and list(dataset.metainfo['classes']) == CLASSES
    # The images 7 and 11 show VOC's classes cat (8) and dog (12).
    labels = [set(dataset[place]['data_samples'].gt_sem_seg.data.unique().tolist()) for place in (7, 11)]
    assert labels == [{0, 2, 255}, {0, 1, 255}]


def test_a_data_set_of_ones_own_is_folders_of_images_and_masks(tmp_path):
    own = tiny_config(tmp_path / 'voc', tmp_path)
    own.test_dataloader.dataset.dataset = dict(type='ShapesDataset', split='test')
    found = stock_config(own, {}, CLASSES, PALETTE).test_dataloader.dataset
    assert found.type == 'BaseSegDataset' and found.metainfo.classes == CLASSES


def test_a_resize_of_the_test_pipeline_stays(tmp_path):
    cfg = tiny_config(tmp_path / 'voc', tmp_path)
    cfg.test_dataloader.dataset.pipeline[2] = dict(type='Resize', scale=(24, 24), keep_ratio=False)
    found = stock_config(cfg, {}, CLASSES, PALETTE).test_pipeline
    assert found[1] == dict(type='Resize', scale=(24, 24), keep_ratio=False)
    assert isinstance(cfg, Config) and found[2].type == 'LoadAnnotations'


def test_a_transform_that_mmseg_lacks_is_refused(tmp_path):
    cfg = tiny_config(tmp_path / 'voc', tmp_path)
    cfg.test_dataloader.dataset.pipeline.insert(2, dict(type='ScaleAndFlip', scale=2.))
    with pytest.raises(InputError, match=r'has ScaleAndFlip, which mmseg does not have.*--to onnx'):
        stock_config(cfg, {}, CLASSES, PALETTE)
