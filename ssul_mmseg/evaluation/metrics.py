"""IoU of a network that has learned some of a scenario's classes, in the columns of the field's tables."""
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS
from torch import Tensor

from ..errors import InputError
from ..scenario import BACKGROUND, IGNORE, UNKNOWN, Scenario

FUTURE_CLASSES = ('background', 'ignore')


def iou_from_counts(intersection: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> list[float | None]:
    r"""IoU of every class, :math:`TP / (TP + FP + FN)` (SSUL, section 4.1).

    Args:
        intersection: int64 (C,), pixels predicted and labelled as the class, TP.
        predicted: int64 (C,), pixels predicted as the class, TP + FP.
        true: int64 (C,), pixels labelled as the class, TP + FN.

    Returns:
        Percent by class: 0 for a class that is predicted where no pixel is labelled as it, None for a class that no
        pixel is either.

    Example:
        >>> iou_from_counts(np.array([3, 0, 0]), predicted=np.array([4, 1, 0]), true=np.array([5, 0, 0]))
        [50.0, 0.0, None]
    """
    union = predicted + true - intersection
    return [100 * float(i) / float(u) if u else None for i, u in zip(intersection, union, strict=True)]


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that there are, or None."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


@METRICS.register_module()
class IncrementalIoUMetric(BaseMetric):
    """mIoU over base, new and all classes, with unknown merged into background (SSUL, section 3.1).

    Needs ``dataset_meta['classes']``: names by label, background first. The result holds, in percent: ``mIoU_base``,
    ``mIoU_new``, ``mIoU_all`` (base and all count background, unless ``dataset_meta['background']`` says that every
    pixel is of a class: then only those of future classes are), ``mIoU_base_no_background``,
    ``mIoU_all_no_background``, ``IoU`` by class name, ``absent``, the names of the classes learned so far that no
    pixel is labelled as, and ``confusion``, pixels by labelled class (row) and predicted class (column), in the order
    of learning with background first. An absent class has IoU 0 if it is predicted anywhere, else None, which counts
    in no mean. A mean over nothing is None.

    Args:
        scenario: a :class:`~ssul_mmseg.scenario.Scenario`, or its arguments, as a config gives them.
        task: the task just learned.
        future_classes: what pixels of classes not yet learned are: 'background', or 'ignore' (the authors' code).

    Raises:
        InputError: ``future_classes`` is none of the two, or the scenario has no such task.
    """

    # Not None, which mmengine warns about.
    default_prefix = ''

    def __init__(self,
                 scenario: Scenario | Mapping,
                 task: int,
                 future_classes: str = 'background') -> None:
        if future_classes not in FUTURE_CLASSES:
            raise InputError(f'future_classes is {future_classes!r}; choose one of {", ".join(FUTURE_CLASSES)}')
        # Through the process group, gloo's too: 'cpu' would pass files through the current folder.
        super().__init__(collect_device='gpu')
        self.scenario = scenario if isinstance(scenario, Scenario) else Scenario(**scenario)
        self.task = self.scenario.check_task(task)
        self.num_channels = self.scenario.seen(task).stop
        ignored = self.num_channels
        future = BACKGROUND if future_classes == 'background' else ignored
        self.true_table = self._table({**dict.fromkeys(self.scenario.future(task), future), IGNORE: ignored})
        self.predicted_table = self._table({})

    def _table(self, others: Mapping[int, int]) -> Tensor:
        """Table (256,) from label to class 0..n_seen, n_seen + 1 for ignored, or -1 for what must not occur."""
        table = torch.full((IGNORE + 1, ), -1)
        table[:self.num_channels] = torch.arange(self.num_channels)
        table[UNKNOWN] = BACKGROUND
        for label, meaning in others.items():
            table[label] = meaning
        return table

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Count the pixels of images.

        Args:
            data_batch: unused.
            data_samples: each with ``pred_sem_seg`` and ``gt_sem_seg``, whose ``data`` are labels (1, H, W) of any
                integer dtype: 0..n_seen and UNKNOWN; the ground truth also IGNORE and classes not yet learned.

        Raises:
            InputError: another value, other numbers than integers, or two sizes; names the image.
        """
        for sample in data_samples:
            predicted, true = sample['pred_sem_seg']['data'], sample['gt_sem_seg']['data']
            name = sample.get('img_path', 'an image')
            if predicted.shape != true.shape:
                raise InputError(f'the prediction for {name} has the shape {tuple(predicted.shape)}, but its ground '
                                 f'truth {tuple(true.shape)}; predict at the size of the ground truth')
            true = self._classes(self.true_table, true.to(predicted.device), f'ground truth of {name}',
                                 'no class of the scenario; correct the mask, or mark such pixels 255')
            predicted = self._classes(self.predicted_table, predicted, f'prediction for {name}',
                                      'no class learned so far; load the weights of this task and scenario')
            # One result per image: mmengine cuts what a sampler padded by the number of results.
            self.results.append(self._counts(predicted, true))

    @staticmethod
    def _classes(table: Tensor, labels: Tensor, where: str, fault: str) -> Tensor:
        """Labels as classes of the table, int64."""
        if labels.is_floating_point():
            raise InputError(f'the {where} is {labels.dtype}; labels must be integers')
        labels = labels.long()
        # Outside the table an index would fail, and a negative one would count from its end.
        inside = labels.clamp(0, IGNORE)
        classes = table.to(labels.device).take(inside).where(inside == labels, -1)
        if (classes < 0).any():
            raise InputError(f'the {where} holds the value {int(labels[classes < 0][0])}, which is {fault}')
        return classes

    def _counts(self, predicted: Tensor, true: Tensor) -> np.ndarray:
        """Pairs of labelled and predicted class that occur, and their pixels: int64 (2, number of such pairs).

        A pair is ``labelled * C + predicted``. An image holds few of the C * C pairs; all would be large for each of
        thousands of images.
        """
        # One count of all pairs, ignored pixels in a last row of their own: selecting pixels takes seven times as long.
        size = self.num_channels
        counts = (true * size + predicted).flatten().bincount(minlength=(size + 1) * size)[:size * size]
        pairs = counts.nonzero()[:, 0]
        return torch.stack([pairs, counts[pairs]]).cpu().numpy()

    def compute_metrics(self, results: list[np.ndarray]) -> dict:
        """Turn the counts of all images, each of :meth:`_counts`, into the metrics.

        Raises:
            InputError: there is no image, or ``dataset_meta`` does not name the scenario's classes.
        """
        if not results:
            raise InputError('there is no test image; check the paths of test_dataloader.dataset')
        names = self._class_names()
        confusion = np.zeros((self.num_channels, self.num_channels), np.int64)
        for pairs, pixels in results:
            confusion.flat[pairs] += pixels
        true = confusion.sum(axis=1)
        iou = iou_from_counts(confusion.diagonal(), confusion.sum(axis=0), true)
        absent = {label for label in self.scenario.seen(self.task) if label != BACKGROUND and not true[label]}
        if not self.dataset_meta.get('background', True):
            iou[BACKGROUND] = None
        seen = self.scenario.seen(self.task)
        base = [label for label in self.scenario.base if label in seen]
        new = [label for label in self.scenario.new if label in seen]

        def over(labels: Sequence[int]) -> float | None:
            return mean(iou[label] for label in labels)

        return {
            'mIoU_base': over([BACKGROUND, *base]),
            'mIoU_new': over(new),
            'mIoU_all': over([BACKGROUND, *base, *new]),
            'mIoU_base_no_background': over(base),
            'mIoU_all_no_background': over([*base, *new]),
            'IoU': {names[label]: value for label, value in enumerate(iou)},
            'absent': [names[label] for label in sorted(absent)],
            'confusion': confusion.tolist(),
        }

    def _class_names(self) -> Sequence[str]:
        """Names by label, background first."""
        names = (self.dataset_meta or {}).get('classes', ())
        if len(names) != self.scenario.num_classes + 1:
            raise InputError(f'the test data name {len(names)} classes, but the scenario has background and '
                             f'{self.scenario.num_classes} more; wrap the data set in TaskDataset')
        return names
