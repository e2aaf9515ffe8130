"""How well a score tells pixels of classes that were never learned from all others: AUROC and FPR95."""
import math
from collections.abc import Mapping, Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS

from ..errors import InputError
from ..scenario import IGNORE, Scenario
from .tables import number, table

PIXELS = 1 << 14
"""Of an image with more pixels only every k-th row and column counts, so that a large data set fits the memory."""
TPR = 0.95


def auroc(positives: np.ndarray, negatives: np.ndarray) -> float | None:
    r"""Area under the ROC curve, the chance that a positive has a larger score than a negative.

    .. math:: P(s^+ > s^-) + P(s^+ = s^-) / 2

    (Hanley and McNeil, 1982.)

    Args:
        positives: float (P,), scores.
        negatives: float (N,), scores.

    Returns:
        In percent; None without positives or without negatives.
    """
    if not len(positives) or not len(negatives):
        return None
    ordered = np.sort(negatives)
    below, not_above = (np.searchsorted(ordered, positives, side) for side in ('left', 'right'))
    return float(50 * (below.mean() + not_above.mean()) / len(negatives))


def fpr_at(tpr: float, positives: np.ndarray, negatives: np.ndarray) -> float | None:
    """Share of the negatives at or above the largest threshold that finds a share of the positives.

    Args:
        tpr: share of the positives, in (0, 1].
        positives: float (P,), scores.
        negatives: float (N,), scores.

    Returns:
        In percent; None without positives or without negatives.
    """
    if not len(positives) or not len(negatives):
        return None
    # Without the margin 0.95 x 20 would be rounded to more than 19.
    found = math.ceil(tpr * len(positives) - 1e-9)
    threshold = np.sort(positives)[-found]
    return float(100 * np.mean(negatives >= threshold))


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
            step = math.ceil(math.sqrt(labels.numel() / PIXELS))
            logits, labels = logits[:, ::step, ::step], labels[::step, ::step].to(logits.device)
            scores = {'max_logit': -logits[:known].amax(0)}
            if len(logits) > known:
                scores['unknown'] = logits[known]
            hidden = (labels >= self.hidden.start) & (labels < self.hidden.stop)
            others = ~hidden & (labels != IGNORE)
            # One result per image: mmengine cuts what a sampler padded by the number of results.
            self.results.append({name: (score[hidden].cpu().numpy(), score[others].cpu().numpy())
                                 for name, score in scores.items()})

    def compute_metrics(self, results: list[dict[str, tuple[np.ndarray, np.ndarray]]]
                        ) -> dict[str, dict[str, float | None]]:
        """AUROC and FPR95 of each score, and ``hidden``, the share of hidden pixels, in percent."""
        found: dict[str, dict[str, float | None]] = {}
        for name in results[0]:
            positives, negatives = (np.concatenate([result[name][part] for result in results]) for part in (0, 1))
            found[name] = {'AUROC': auroc(positives, negatives), 'FPR95': fpr_at(TPR, positives, negatives),
                           'hidden': 100 * len(positives) / max(len(positives) + len(negatives), 1)}
        return found


def open_set_table(metrics: Mapping[str, Mapping[str, float | None]]) -> str:
    """Show what :class:`OpenSetMetric` found, a row for each score."""
    rows = [[name, number(found['AUROC']), number(found['FPR95'])] for name, found in metrics.items()]
    hidden = next(iter(metrics.values()))['hidden']
    return (f'Pixels of classes that are not learned yet ({number(hidden)} % of all), found by a score, in percent:\n\n'
            f'{table(["score", "AUROC", "FPR95"], rows)}\n')
