"""Which images belong to a task; test_task_dataset.py has the settings in whole data sets."""
import numpy as np
from mask_files import index_of

from ssul_mmseg.datasets.task_images import images_of_task, values_of
from ssul_mmseg.scenario import Scenario


def test_images_with_a_class_and_those_without_a_later_one():
    # Value 7 stands for class 1, value 5 for class 2.
    table = np.full(256, -1, np.int16)
    table[[0, 7, 5, 255]] = 0, 1, 2, 255
    assert values_of(table, [1, 2]) == [5, 7]
    index = index_of([[0, 7], [7, 5, 255], [5], [0]])
    found = {setting: [part.tolist() for part in images_of_task(index, table, Scenario('1-1', 2, setting=setting), 0)]
             for setting in ('overlapped', 'disjoint')}
    holding = [True, True, False, False]
    assert found == {'overlapped': [holding, holding], 'disjoint': [holding, [True, False, False, False]]}
