"""How well a score tells pixels of classes that were never learned from all others: AUROC and FPR95."""
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS
from torch import Tensor

from ..errors import InputError
from ..scenario import IGNORE, Scenario
from .tables import number, table

LEVELS = 1 << 16
"""Scores are rounded to half precision, 11 significant bits, and counted by value: memory does not grow with images."""
TPR = 0.95


def auroc(positives: np.ndarray, negatives: np.ndarray) -> float | None:
    r"""Area under the ROC curve, the chance that a positive has a larger score than a negative.

    .. math:: P(s^+ > s^-) + P(s^+ = s^-) / 2

    (Hanley and McNeil, 1982.)

    Args:
        positives: integer (L,), the number of positives of each score, ascending.
        negatives: integer (L,), the same of negatives.

    Returns:
        In percent; None without positives or without negatives.
    """
    total = float(positives.sum()) * float(negatives.sum())
    if not total:
        return None
    below = np.cumsum(negatives) - negatives
    return float(100 * np.sum(positives * (below + negatives / 2)) / total)


def fpr_at(tpr: float, positives: np.ndarray, negatives: np.ndarray) -> float | None:
    """Share of negatives at or above the largest threshold that finds a share of the positives.

    Args:
        tpr: share of the positives, in (0, 1].
        positives: integer (L,), the number of positives of each score, ascending.
        negatives: integer (L,), the same of negatives.

    Returns:
        In percent; None without positives or without negatives.
    """
    if not positives.sum() or not negatives.sum():
        return None
    found = np.cumsum(positives[::-1])
    # Counts are whole numbers; without the margin 0.95 x 20 = 19 would not be reached by 19.
    threshold = int(np.argmax(found >= tpr * found[-1] - 1e-9))
    return float(100 * np.cumsum(negatives[::-1])[threshold] / negatives.sum())


def levels(scores: Tensor) -> Tensor:
    """Whole numbers 0 to LEVELS - 1 that order real scores as half precision does; int64 of their shape."""
    bits = scores.to(torch.float16).view(torch.int16).long()
    # Negative numbers have the sign bit, and grow as their other bits fall. Zero of either sign is one number.
    half = LEVELS // 2
    return torch.where(bits < 0, -(bits + half), bits) + half


@METRICS.register_module()
class OpenSetMetric(BaseMetric):
    """AUROC and FPR95 of the pixels of classes that are not learned yet, the positives, against all others.

    Needs samples with ``seg_logits``, whose channels are background, the classes learned so far, and unknown where the
    head has it. Two scores are compared: ``unknown``, the logit of the unknown channel (SSUL, section 3.1), and
    ``max_logit``, the negative of the largest logit of background and the learned classes, which any network has
    (Hendrycks et al., 2022). Ignored pixels count nowhere.

    Args:
        scenario: a :class:`~ssul_mmseg.scenario.Scenario`, or its arguments.
        task: the task just learned.

    Raises:
        InputError: no class is left to be found, or there is no such task.
    """

    default_prefix = ''

    def __init__(self, scenario: Scenario | Mapping, task: int) -> None:
        super().__init__(collect_device='gpu')
        self.scenario = scenario if isinstance(scenario, Scenario) else Scenario(**scenario)
        self.task = self.scenario.check_task(task)
        self.hidden = self.scenario.future(task)
        if not self.hidden:
            raise InputError(f'after task {task} all classes are learned, so that no pixel is of an unknown one; '
                             'choose an earlier --task')

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Count the scores of images.

        Args:
            data_batch: unused.
            data_samples: each with ``seg_logits``, whose ``data`` are float (C, H, W), and ``gt_sem_seg``, labels
                (1, H, W) of all classes.
        """
        known = self.scenario.seen(self.task).stop
        for sample in data_samples:
            logits, labels = sample['seg_logits']['data'], sample['gt_sem_seg']['data'][0]
            labels = labels.to(logits.device)
            scores = {'max_logit': -logits[:known].amax(0)}
            if len(logits) > known:
                scores['unknown'] = logits[known]
            hidden = (labels >= self.hidden.start) & (labels < self.hidden.stop)
            others = ~hidden & (labels != IGNORE)
            # One result per image: mmengine cuts what a sampler padded by the number of results.
            self.results.append({name: _counts(score, hidden, others) for name, score in scores.items()})

    def compute_metrics(self, results: list[dict[str, np.ndarray]]) -> dict[str, dict[str, float | None]]:
        """AUROC and FPR95 of each score, in percent, and ``hidden``, the share of hidden pixels."""
        found: dict[str, dict[str, float | None]] = {}
        for name in results[0]:
            positives, negatives = sum(_dense(result[name]) for result in results)
            found[name] = {'AUROC': auroc(positives, negatives), 'FPR95': fpr_at(TPR, positives, negatives),
                           'hidden': 100 * float(positives.sum()) / float(positives.sum() + negatives.sum())}
        return found


def open_set_table(metrics: Mapping[str, Mapping[str, float | None]]) -> str:
    """Show what :class:`OpenSetMetric` found, a row for each score."""
    rows = [[name, number(found['AUROC']), number(found['FPR95'])] for name, found in metrics.items()]
    hidden = next(iter(metrics.values()))['hidden']
    return (f'Pixels of classes that are not learned yet ({number(hidden)} % of all), found by a score, in percent:\n\n'
            f'{table(["score", "AUROC", "FPR95"], rows)}\n')


def _counts(score: Tensor, hidden: Tensor, others: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The levels that occur in an image, and how often in its hidden pixels and in the others."""
    level = levels(score)
    pair = torch.stack([level[part].bincount(minlength=LEVELS) for part in (hidden, others)])
    held = pair.sum(0).nonzero().squeeze(1)
    return held.cpu().numpy(), pair[0][held].cpu().numpy(), pair[1][held].cpu().numpy()


def _dense(counts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Counts of all levels, int64 (2, LEVELS)."""
    held, *pair = counts
    dense = np.zeros((2, LEVELS), np.int64)
    dense[:, held] = pair
    return dense
