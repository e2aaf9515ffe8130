"""Mask and saliency beside the labels, in the same view of the image."""
import numpy as np
import pytest
from mmseg.registry import DATASETS
from tiny import tiny_config, voc_tree

from ssul_mmseg.datasets.label_sources import keeping_sources
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.scenario import BACKGROUND, IGNORE, UNKNOWN


@pytest.mark.parametrize('saliency', ['map', 'ground_truth', 'all', None])
def test_sources_are_kept_and_change_nothing(tmp_path, saliency):
    root = voc_tree(tmp_path / 'voc')
    config = task_config(tiny_config(root, tmp_path, saliency=saliency, crop_size=(16, 20)), 1).train_dataloader.dataset
    plain = DATASETS.build(config)
    kept = DATASETS.build(dict(config, pipeline=keeping_sources(config.pipeline)))
    for key in [(0, 0), (1, 3), (2, 5)]:
        one, two = plain[key], kept[key]
        labels = one['data_samples'].gt_sem_seg.data
        assert (one['inputs'] == two['inputs']).all() and (labels == two['data_samples'].gt_sem_seg.data).all()
        found = two['data_samples'].metainfo
        assert (found['img'] == two['inputs'].permute(1, 2, 0).numpy()).all()
        # Eq. 1 without its second row, from what is kept: it is what training sees.
        mask, labelled = found['mask'], plain.scenario.labelled(1)
        expected = np.where(np.isin(mask, [*labelled, IGNORE]), mask, BACKGROUND)
        expected[(expected == BACKGROUND) & (found['salient'] > 0)] = UNKNOWN
        assert (labels[0].numpy() == expected).all()


def test_a_pipeline_that_cannot_show_its_labels_is_refused():
    for pipeline in ([dict(type='LoadImage'), dict(type='PackSegInputs')],
                     [dict(type='LoadLabels'), dict(type='RandomFlip')]):
        with pytest.raises(InputError, match='the training pipeline has no LoadLabels, or does not end'):
            keeping_sources(pipeline)


def test_a_pipeline_without_augmented_labels_has_no_saliency():
    pack = dict(type='PackSegInputs', meta_keys=('flip', ))
    made = keeping_sources([dict(type='LoadLabels'), pack])
    assert [transform['type'] for transform in made] == ['LoadLabels', 'KeepLabelSources', 'PackSegInputs']
    assert made[1]['saliency'] is None and made[2]['meta_keys'] == ('flip', 'img', 'mask', 'salient')
