import json
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from ssul_mmseg.errors import InputError
from ssul_mmseg.scenario import Scenario

PAPER_SCENARIOS = [('10-1', 20, 11), ('15-1', 20, 6), ('15-5', 20, 2), ('19-1', 20, 2), ('5-3', 20, 6), ('5-1', 20, 16),
                   ('2-1', 20, 19), ('2-2', 20, 10), ('100-5', 150, 11), ('100-10', 150, 6), ('100-50', 150, 2),
                   ('50-50', 150, 3), ('20-1', 20, 1)]


@pytest.mark.parametrize(('name', 'num_classes', 'num_tasks'), PAPER_SCENARIOS)
def test_scenarios_of_the_paper(name, num_classes, num_tasks):
    scenario = Scenario(name, num_classes)
    assert len(scenario.tasks) == num_tasks
    assert [label for task in scenario.tasks for label in task] == list(range(1, num_classes + 1))


def test_an_order_of_other_integers_and_what_joint_is():
    scenario = Scenario('2-1', 4, np.arange(4, 0, -1))
    assert scenario == Scenario('2-1', 4, [4, 3, 2, 1]) and all(type(i) is int for i in scenario.order)
    with pytest.raises(InputError, match=r"scenario\.joint is 'no'"):
        Scenario('2-1', 4, joint='no')


def test_parts_of_15_1():
    scenario = Scenario('15-1', 20)
    assert scenario.tasks[2] == range(17, 18)
    assert (scenario.old(2), scenario.seen(2), scenario.future(2)) == (range(1, 17), range(1, 18), range(18, 21))
    assert (scenario.base, scenario.new) == (range(1, 16), range(16, 21))
    assert scenario.classes_per_task(2) == (15, 1, 1)
    for setting, labelled in (('overlapped', [17]), ('disjoint', [17]), ('sequential', range(1, 18))):
        assert list(Scenario('15-1', 20, setting=setting).labelled(2)) == list(labelled)


def test_tasks_of_several_sizes():
    scenario = Scenario('15-5-1', 23)
    assert scenario.classes_per_task(4) == (15, 5, 1, 1, 1) and len(scenario.tasks) == 5
    assert scenario.tasks[1:3] == (range(16, 21), range(21, 22))
    assert (scenario.base, scenario.new) == (range(1, 16), range(16, 24))
    assert Scenario('15-1-1', 20).tasks == Scenario('15-1', 20).tasks
    assert Scenario('15-5-1', 20).classes_per_task(1) == (15, 5)


def test_joint_keeps_base_and_new():
    scenario = Scenario('15-1', 20, joint=True)
    assert scenario.tasks == (range(1, 21), )
    assert (scenario.base, scenario.new) == (range(1, 16), range(16, 21))


@pytest.mark.parametrize(('args', 'words'), [
    (('15-7', 20), ['15-7', '20', 'divides 5']),
    (('21-1', 20), ['21', '20']),
    (('15-5-2', 23), ['15-5-2', 'the 3 after the first 20', 'divides 3']),
    (('15-6-1', 20), ['starts with 21 classes', '20']),
    (('15-5-', 20), ['<base>-<increment>']),
    (('15', 20), ['<base>-<increment>']),
    (('0-1', 20), ['<base>-<increment>']),
    (('15-0', 20), ['<base>-<increment>']),
    (('2-1', 4, [1, 2, 2, 4]), ['missing: 3', 'repeated: 2']),
    (('2-1', 4, [1, 2, 3]), ['missing: 4']),
    (('2-1', 4, [0, 1, 2, 3]), ['missing: 4', 'not a class id: 0']),
    (('2-1', 4, [1, 2, 3, '4']), ["not a class id: '4'"]),
])
def test_wrong_input_says_what_is_wrong(args, words):
    with pytest.raises(ValueError) as error:
        Scenario(*args)
    assert isinstance(error.value, InputError)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_unknown_task_and_setting():
    with pytest.raises(InputError, match='tasks 0 to 5'):
        Scenario('15-1', 20).check_task(6)
    with pytest.raises(InputError, match="task 'x' was asked for"):
        Scenario('15-1', 20).check_task('x')
    with pytest.raises(InputError, match='disjoint'):
        Scenario('15-1', 20, setting='overlap')


@given(st.text(max_size=12) | st.from_regex(r'\A\d{1,4}(-\d{1,2}){1,3}\Z'), st.integers(0, 300))
def test_any_name_is_right_or_refused(name, num_classes):
    try:
        scenario = Scenario(name, num_classes)
    except InputError:
        return
    sizes = [*map(int, name.split('-'))]
    learned = [len(task) for task in scenario.tasks]
    assert learned[:len(sizes)] == sizes[:len(learned)] and {*learned[len(sizes):]} <= {sizes[-1]}
    assert scenario.tasks[-1].stop == num_classes + 1


@given(st.lists(st.integers(-2, 9) | st.booleans() | st.text(max_size=1), max_size=9))
def test_any_order_is_right_or_refused(order):
    try:
        scenario = Scenario('2-1', 6, order)
    except InputError:
        assert order != [1, 2, 3, 4, 5, 6]
        return
    assert sorted(scenario.order) == [1, 2, 3, 4, 5, 6] and all(type(i) is int for i in order)


@given(st.permutations(range(1, 21)))
def test_any_permutation_is_accepted(order):
    assert Scenario('15-1', 20, order).order == tuple(order)


def test_published_class_orders_are_accepted():
    orders = json.loads((Path(__file__).parent / 'voc_class_orders.json').read_text())
    assert len(orders) == 23
    for order in orders.values():
        assert Scenario('15-1', 20, order).order[0] == order[0]
