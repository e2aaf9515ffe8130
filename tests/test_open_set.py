"""How well scores find pixels of classes that were never learned."""
import numpy as np
import pytest
import torch
from tiny import tiny_config, voc_tree

from ssul_mmseg.api import load_model
from ssul_mmseg.datasets.masks import read_mask
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import evaluate_open_set, run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.evaluation.open_set import OpenSetMetric, auroc, fpr_at, open_set_table
from ssul_mmseg.scenario import IGNORE, Scenario


def scores(*values):
    return np.array(values, np.float32)


def test_auroc_is_the_chance_that_a_positive_scores_more():
    # 3 beats 1, 2 and 0; 2 beats 1 and 0, and ties with 2: 5.5 of 6 pairs.
    assert auroc(scores(3, 2), scores(1, 2, 0)) == pytest.approx(100 * 5.5 / 6)
    assert auroc(scores(5), scores(1, 2)) == 100 and auroc(scores(0), scores(1, 2)) == 0
    assert auroc(scores(4, 4), scores(4)) == 50
    assert auroc(scores(), scores(4)) is None and auroc(scores(4), scores()) is None


def test_fpr_counts_the_negatives_at_or_above_the_threshold():
    assert fpr_at(0.95, scores(3, 2), scores(1, 2, 0)) == pytest.approx(100 / 3)
    # 19 of 20 positives score 2 or more, and so does one of the four negatives.
    assert fpr_at(0.95, scores(*range(1, 21)), scores(2, 1, 1, 1)) == 25
    assert fpr_at(1, scores(*range(1, 21)), scores(2, 1, 1, 0)) == 75
    assert fpr_at(0.95, scores(), scores(4)) is None and fpr_at(0.95, scores(4), scores()) is None


def sample(logits, labels):
    return dict(seg_logits=dict(data=torch.tensor(logits, dtype=torch.float).unsqueeze(1)),
                gt_sem_seg=dict(data=torch.tensor([[labels]])))


def test_the_metric_compares_hidden_classes_with_all_that_is_known():
    metric = OpenSetMetric(Scenario('1-1', 2), 0)
    # Pixels: hidden, background, class 1, ignored; channels: background, class 1, unknown.
    metric.process(None, [sample([[0, 5, 1, 0], [1, 0, 7, 0], [6, 2, 6, 9]], [2, 0, 1, IGNORE])])
    metric.process(None, [sample([[3, 5], [1, 4], [3, 1]], [2, 0])])
    found = metric.compute_metrics(metric.results)
    # unknown: hidden 6 and 3 against 2, 6 and 1: 2.5 + 2 of 6 pairs; at 3 one of three. max_logit: -1, -3; -5, -7, -5.
    assert found['unknown'] == {'AUROC': 75, 'FPR95': pytest.approx(100 / 3), 'hidden': 40}
    assert found['max_logit'] == {'AUROC': 100, 'FPR95': 0, 'hidden': 40}
    assert '| unknown   |  75.00 | 33.33 |' in open_set_table(found)


def test_of_a_large_image_every_kth_row_and_column_counts():
    metric = OpenSetMetric(Scenario('1-1', 2), 0)
    labels = torch.zeros(300, 200, dtype=torch.long)
    labels[::2, ::2] = 2  # 60,000 pixels, of which every second row and column counts
    metric.process(None, [dict(seg_logits=dict(data=torch.zeros(3, 300, 200)), gt_sem_seg=dict(data=labels[None]))])
    hidden, others = metric.results[0]['unknown']
    assert len(hidden) == 15000 and len(others) == 0


def test_a_network_without_unknown_has_the_other_score_alone():
    metric = OpenSetMetric(dict(name='1-1', num_classes=2), 0)
    metric.process(None, [sample([[0, 5], [1, 0]], [2, 0])])
    assert list(metric.compute_metrics(metric.results)) == ['max_logit']


def test_a_task_after_which_nothing_is_hidden_is_refused():
    with pytest.raises(InputError, match='after task 1 all classes are learned'):
        OpenSetMetric(Scenario('1-1', 2), 1)


def test_a_run_is_measured_as_its_predictions_say(tmp_path):
    cfg = tiny_config(voc_tree(tmp_path / 'voc', 20), tmp_path / 'run', **{
        'scenario.name': '15-1', 'train_cfg.max_epochs': 1, 'test_size': None, 'test_dataloader.batch_size': 3})
    run_scenario(cfg, [0])
    found = evaluate_open_set(Run(cfg), 0)
    model = load_model(tmp_path / 'run')
    hidden, others = [], []
    for path in sorted((tmp_path / 'voc/SegmentationClassAug').iterdir()):
        score = model.predict(tmp_path / f'voc/JPEGImages/{path.stem}.jpg', scores=True).scores[-1]
        labels = read_mask(str(path))
        hidden.append(score[(labels > 15) & (labels < IGNORE)])
        others.append(score[labels <= 15])
    hidden, others = np.concatenate(hidden), np.sort(np.concatenate(others))
    below, upto = (np.searchsorted(others, hidden, side) for side in ('left', 'right'))
    # Images in batches round otherwise than single ones, and scores of a hardly trained network lie close together.
    assert found['unknown']['AUROC'] == pytest.approx(50 * np.mean(below + upto) / len(others), abs=0.05)
    assert found['unknown']['hidden'] == pytest.approx(100 * len(hidden) / (len(hidden) + len(others)))
    threshold = np.quantile(hidden, 0.05, method='lower')
    assert found['unknown']['FPR95'] == pytest.approx(100 * np.mean(others >= threshold), abs=0.1)
