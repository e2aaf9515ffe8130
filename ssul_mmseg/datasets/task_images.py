"""Which images belong to a task."""
from collections.abc import Sequence

import numpy as np

from ..scenario import BACKGROUND, IGNORE, Scenario
from .class_index import ClassIndex


def values_of(label_table: np.ndarray, labels: Sequence[int]) -> list[int]:
    """Mask values that stand for some labels.

    Args:
        label_table: int (256,), label by mask value.
        labels: the labels.
    """
    return np.flatnonzero(np.isin(label_table, list(labels))).tolist()


def images_of_task(index: ClassIndex, label_table: np.ndarray, scenario: Scenario, task: int
                   ) -> tuple[np.ndarray, np.ndarray]:
    """Find D_t: the images with a pixel of C_t; in the settings disjoint and sequential those without a future class.

    Args:
        index: the values in each mask.
        label_table: int (256,), label by mask value.
        scenario: the scenario.
        task: index of the task.

    Returns:
        bool (num_images, ) each: the images that hold a class of the task, and those of them that are D_t.
    """
    holding = index.with_any(values_of(label_table, scenario.tasks[task]))
    if scenario.setting == 'overlapped':
        return holding, holding
    known = [BACKGROUND, IGNORE, *scenario.seen(task)]
    return holding, holding & index.with_only(values_of(label_table, known))
