import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.utils.data import Dataset

from ssul_mmseg.errors import InputError
from ssul_mmseg.evaluation.metrics import IncrementalIoUMetric, iou_from_counts, mean
from ssul_mmseg.scenario import IGNORE, UNKNOWN, Scenario

# Tasks of '2-1' with four classes: (a, b), (c), (d).
SCENARIO = dict(name='2-1', num_classes=4)
NAMES = ('background', 'a', 'b', 'c', 'd')
TRUE = [[0, 1, 1], [2, 3, IGNORE]]
PREDICTED = [[UNKNOWN, 1, 2], [2, 0, 3]]


def sample(predicted, true, dtype=torch.int64, path='street.jpg'):
    return dict(pred_sem_seg=dict(data=torch.tensor([predicted]).to(dtype)),
                gt_sem_seg=dict(data=torch.tensor([true]).to(dtype)), img_path=path)


def metric(task=1, scenario=SCENARIO, **options):
    built = IncrementalIoUMetric(scenario, task, **options)
    built.dataset_meta = dict(classes=NAMES)
    return built


def evaluated(samples, **options):
    built = metric(**options)
    built.process(None, samples)
    return built.evaluate(len(samples))


def test_iou_is_tp_over_tp_fp_fn_and_none_where_a_class_is_neither_there_nor_predicted():
    # TP 2, FP 1, FN 1 -> 2/4; nothing anywhere; predicted only; labelled only.
    assert iou_from_counts(*np.array([[2, 0, 0, 0], [3, 0, 5, 0], [3, 0, 0, 7]])) == [50, None, 0, 0]


def test_background_counts_only_where_a_pixel_can_be_it():
    # Dense: pixels of future classes are background, which is no class of its own.
    built = metric(task=0)
    built.dataset_meta = dict(classes=NAMES, background=False)
    built.process(None, [sample([[1, 1], [2, 1]], [[1, 1], [2, 3]])])
    result = built.evaluate(1)
    assert result['IoU'] == {'background': None, 'a': pytest.approx(200 / 3), 'b': 100}
    assert result['mIoU_base'] == result['mIoU_base_no_background'] == pytest.approx(250 / 3)


def test_mean_leaves_out_what_is_absent():
    assert mean([1.0, None, 4.0]) == 2.5
    assert mean([None]) is None
    assert mean([]) is None


def test_hand_computed_map():
    result = evaluated([sample(PREDICTED, TRUE)])
    # background: unknown counts, one pixel of c predicted as it: 1/2; a: 1/2; b: 1/2; c: 0/1, ignored pixel not FP.
    assert result['IoU'] == {'background': 50, 'a': 50, 'b': 50, 'c': 0}
    assert result['mIoU_base'] == 50
    assert result['mIoU_new'] == 0
    assert result['mIoU_all'] == 37.5
    assert result['mIoU_base_no_background'] == 50
    assert result['mIoU_all_no_background'] == pytest.approx(100 / 3)


def test_confusion_counts_labelled_by_predicted_class_over_all_images():
    result = evaluated([sample(PREDICTED, TRUE), sample([[3, 0, UNKNOWN]], [[2, 2, 4]])])
    # Rows are labels: of b one pixel each is found, taken for c, and for background; d is not learned: background.
    assert result['confusion'] == [[2, 0, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1], [1, 0, 0, 0]]


def test_unknown_in_the_ground_truth_is_background():
    assert evaluated([sample([[0, 1, 0]], [[UNKNOWN, UNKNOWN, 0]])])['IoU']['background'] == pytest.approx(200 / 3)


def test_a_class_in_no_mask_has_iou_0_where_it_is_predicted():
    # b is only predicted: TP 0, FP 1, FN 0.
    result = evaluated([sample([[0, 1, 2], [0, 3, 1]], [[0, 1, 1], [0, 3, 1]])])
    assert result['IoU'] == {'background': 100, 'a': pytest.approx(200 / 3), 'b': 0, 'c': 100}
    assert result['mIoU_base'] == pytest.approx((100 + 200 / 3 + 0) / 3)
    assert result['mIoU_base_no_background'] == pytest.approx(100 / 3)
    assert result['mIoU_new'] == 100 and result['absent'] == ['b']


def test_a_class_in_no_mask_and_predicted_nowhere_is_in_no_mean():
    result = evaluated([sample([[0, 1, 0], [0, 3, 1]], [[0, 1, 1], [0, 3, 1]])])
    assert result['IoU']['b'] is None and result['absent'] == ['b']
    # background: TP 2, FP 1; a: TP 2, FN 1.
    assert result['mIoU_base'] == pytest.approx(200 / 3)


def test_false_alarms_of_a_class_in_no_mask_halve_the_mean_over_two_classes():
    # Of the 54 pixels of c 25 are found, the others are taken for d: c 25/54, d 0/29.
    result = evaluated([sample([[0, 1, 2] + [3] * 25 + [4] * 29], [[0, 1, 2] + [3] * 54])], task=2)
    assert [round(result['IoU'][name], 1) for name in 'cd'] == [46.3, 0]
    assert round(result['mIoU_new'], 1) == 23.1
    assert result['absent'] == ['d']


def test_base_task_has_no_new_classes():
    result = evaluated([sample([[0, 1, 2]], [[0, 1, 2]])], task=0)
    assert result['mIoU_new'] is None
    assert result['mIoU_all'] == result['mIoU_base'] == 100
    assert list(result['IoU']) == ['background', 'a', 'b']


def test_joint_training_keeps_the_base_and_new_of_its_scenario():
    result = evaluated([sample([[0, 1, 2, 3, 3]], [[0, 1, 2, 3, 4]])], task=0, scenario=dict(SCENARIO, joint=True))
    assert result['mIoU_base'] == 100
    assert result['mIoU_new'] == 25  # c: 1/2, d: 0
    assert result['mIoU_all'] == 70


def test_classes_not_yet_learned_are_background_or_ignored():
    samples = [sample([[0, 0, 1]], [[0, 4, 1]])]
    assert evaluated(samples)['IoU']['background'] == 100
    assert evaluated([sample([[0, 1]], [[0, 4]])])['IoU'] == {'background': 50, 'a': 0, 'b': None, 'c': None}
    assert evaluated([sample([[0, 1, 1]], [[0, 4, 1]])], future_classes='ignore')['IoU']['a'] == 100
    with pytest.raises(InputError, match="future_classes is 'unknown'"):
        metric(future_classes='unknown')


def test_two_batches_are_one_batch():
    samples = [sample(PREDICTED, TRUE), sample([[1, 1]], [[1, 2]]), sample([[3], [0]], [[3], [0]])]
    built = metric()
    built.process(None, samples[:1])
    built.process(None, samples[1:])
    assert built.evaluate(3) == evaluated(samples)


def test_images_that_a_sampler_padded_do_not_count():
    samples = [sample(PREDICTED, TRUE), sample([[1, 1]], [[1, 2]])]
    built = metric()
    built.process(None, [*samples, samples[0]])
    assert built.evaluate(2) == evaluated(samples)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64])
def test_integer_dtypes(dtype):
    assert evaluated([sample(PREDICTED, TRUE, dtype)]) == evaluated([sample(PREDICTED, TRUE)])


def test_a_scenario_or_its_arguments():
    assert evaluated([sample(PREDICTED, TRUE)], scenario=Scenario(**SCENARIO)) == evaluated([sample(PREDICTED, TRUE)])


@pytest.mark.parametrize(('predicted', 'true', 'message'), [
    ([[0, 4]], [[0, 1]], r'prediction for street\.jpg holds the value 4'),  # learned in the next task
    ([[0, IGNORE]], [[0, 1]], r'prediction for street\.jpg holds the value 255'),
    ([[0, -1]], [[0, 1]], r'prediction for street\.jpg holds the value -1'),
    ([[0, 1]], [[0, 5]], r'ground truth of street\.jpg holds the value 5'),
    ([[0, 1]], [[0, -1]], r'ground truth of street\.jpg holds the value -1'),
    ([[0, 1]], [[0, 256]], r'ground truth of street\.jpg holds the value 256'),
    ([[0, 1]], [[0], [1]], r'street\.jpg has the shape \(1, 1, 2\).*\(1, 2, 1\)'),
])
def test_wrong_values_and_sizes_name_the_image(predicted, true, message):
    with pytest.raises(InputError, match=message):
        metric().process(None, [sample(predicted, true)])


def test_float_labels_are_refused():
    with pytest.raises(InputError, match=r'street\.jpg is torch\.float32'):
        metric().process(None, [sample(PREDICTED, TRUE, torch.float32)])


def test_no_image_and_no_names_are_reported():
    with pytest.raises(InputError, match='no test image'):
        metric().compute_metrics([])
    built = metric()
    built.dataset_meta = dict(classes=NAMES[1:])
    built.process(None, [sample(PREDICTED, TRUE)])
    with pytest.raises(InputError, match='test data name 4 classes'):
        built.evaluate(1)
    with pytest.raises(InputError, match='task 3 was asked for'):
        metric(task=3)


maps = st.integers(1, 4).flatmap(lambda size: st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 3, UNKNOWN]), st.sampled_from([0, 1, 2, 3, 4, UNKNOWN, IGNORE])),
    min_size=size, max_size=3 * size))


@settings(max_examples=80)
@given(st.lists(maps, min_size=1, max_size=3))
def test_metric_is_the_iou_of_pixel_sets(images):
    result = evaluated([sample([[p for p, _ in image]], [[t for _, t in image]]) for image in images])
    pixels = [((i, j), *pair) for i, image in enumerate(images) for j, pair in enumerate(image) if pair[1] != IGNORE]
    for label, name in enumerate(NAMES[:4]):
        found = {at for at, p, _ in pixels if (0 if p == UNKNOWN else p) == label}
        there = {at for at, _, t in pixels if (0 if t in (UNKNOWN, 4) else t) == label}
        expected = pytest.approx(100 * len(found & there) / len(found | there)) if found | there else None
        assert result['IoU'][name] == expected
    known = [value for value in result['IoU'].values() if value is not None]
    assert result['mIoU_all'] == (pytest.approx(sum(known) / len(known)) if known else None)


class Maps(Dataset):
    def __init__(self, pairs):
        self.pairs = pairs
        self.metainfo = dict(classes=NAMES)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        predicted, true = (torch.tensor([labels]) for labels in self.pairs[i])
        return dict(inputs=predicted, data_samples=SegDataSample(
            gt_sem_seg=PixelData(data=true), metainfo=dict(img_path=f'{i}.jpg')))


class Oracle(BaseModel):
    """Predicts its input."""

    def forward(self, inputs, data_samples=None, mode='predict'):
        for labels, data_sample in zip(inputs, data_samples, strict=True):
            data_sample.pred_sem_seg = PixelData(data=labels)
        return data_samples


def test_inside_an_mmengine_runner(tmp_path):
    pairs = [(PREDICTED, TRUE), ([[1, 1, 0]], [[1, 2, 0]]), ([[0]], [[0]])]
    config = dict(type='IncrementalIoUMetric', scenario=SCENARIO, task=1)
    runner = Runner(
        Oracle(), work_dir=str(tmp_path), experiment_name=tmp_path.name, default_scope='mmseg', test_cfg=dict(),
        test_dataloader=dict(dataset=Maps(pairs), batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False),
                             collate_fn=dict(type='pseudo_collate')), test_evaluator=config)
    assert isinstance(runner.test_loop.evaluator, Evaluator)
    result = runner.test()
    # a: TP 2, FP 1, FN 1; b: TP 1, FP 1, FN 1; absolute drop of a: 60 - 50, b was absent when it was learned.
    assert result['IoU'] == {'background': 75, 'a': 50, 'b': pytest.approx(100 / 3), 'c': 0}
    assert result == evaluated([sample(*pair) for pair in pairs])
    logs = [json.loads(path.read_text()) for path in tmp_path.glob('*/*.json')]
    assert len(logs) == 1 and logs[0]['IoU']['a'] == 50 and logs[0]['mIoU_new'] == 0


def test_a_missing_mean_passes_through_mmengines_log(tmp_path):
    runner = Runner(
        Oracle(), work_dir=str(tmp_path), experiment_name=tmp_path.name, default_scope='mmseg', test_cfg=dict(),
        test_dataloader=dict(dataset=Maps([([[0, 1]], [[0, 1]])]), sampler=dict(type='DefaultSampler', shuffle=False),
                             collate_fn=dict(type='pseudo_collate')),
        test_evaluator=dict(type='IncrementalIoUMetric', scenario=SCENARIO, task=0))
    assert runner.test()['mIoU_new'] is None
    log = json.loads(next(tmp_path.glob('*/*.json')).read_text())
    assert log['mIoU_new'] is None and log['IoU'] == {'background': 100, 'a': 100, 'b': None}
    assert log['absent'] == ['b']
