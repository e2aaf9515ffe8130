import pytest
from examples import LAST, document

from ssul_mmseg.evaluation.tables import (
    class_list,
    comparison_table,
    duration,
    number,
    scenario_table,
    spread,
    table,
    task_table,
)


def test_numbers_have_the_papers_two_decimals():
    assert [number(x) for x in (71.186, 0, None, -0.001, -1.5)] == ['71.19', '0.00', 'n/a', '0.00', '-1.50']


def test_spread_uses_n_minus_1():
    assert spread([1.0, 2.0, 4.0]) == '2.33 ± 1.53'  # sqrt((16 + 1 + 25) / 9 / 2)
    assert spread([71.0]) == spread([71.0, None]) == '71.00'
    assert spread([None]) == spread([]) == 'n/a'


def test_long_class_lists_are_shortened():
    assert class_list(['a', 'b', 'c']) == 'a, b, c'
    assert class_list(['a', 'b', 'c', 'd', 'e']) == 'a, b, c and 2 more'


def test_a_bar_in_a_name_does_not_end_its_cell():
    assert table(('a', 'b'), [('x|y', '1')]).splitlines()[-1] == r'| x\|y | 1 |'


def test_scenario_table_exactly():
    assert scenario_table(document()) == '''\
SSUL-M on shapes 4-1, overlapped, seed 0: mIoU in percent

| task | classes                         | images | memory |  base |   new |   all | forgetting | minutes |
|------|---------------------------------|-------:|-------:|------:|------:|------:|-----------:|--------:|
| 0    | circle, square, star and 1 more |    600 |      0 | 80.00 |   n/a | 80.00 |        n/a |    1.50 |
| 1    | cross                           |    150 |     20 | 77.12 | 41.50 | 71.19 |       3.60 |    0.20 |

Forgetting: points lost since a class was learned, the mean over the old classes; negative is a gain.

IoU in percent after task 1:

| class      |    IoU | class  |   IoU | class  |   IoU | class | IoU |
|------------|-------:|--------|------:|--------|------:|-------|----:|
| background | 100.00 | circle | 90.00 | square | 80.00 | star  | n/a |
| ring       |  57.50 | cross  | 41.50 |        |       |       |     |

In no test mask: 1 of 5 classes (star); the IoU of such a class is 0 if it is predicted anywhere, else n/a.
'''


def test_all_classes_in_the_test_masks_are_no_word():
    assert 'In no test mask' not in scenario_table(document(finished=False))
    assert 'In no test mask' not in task_table(document(), 1, LAST | dict(absent=[]))


def test_a_base_of_background_alone_is_said_to_be_so():
    content = document()
    assert 'background alone' not in scenario_table(content)
    content['tasks'][1]['mIoU_no_background']['base'] = None
    assert 'Base of task 1 is of background alone: the test masks show no base class.' in scenario_table(content)
    content['tasks'][0]['mIoU_no_background']['base'] = None
    assert 'Base of tasks 0, 1 is of background alone' in scenario_table(content)
    content['tasks'][1]['mIoU']['base'] = content['tasks'][0]['mIoU']['base'] = None  # dense data
    assert 'background alone' not in scenario_table(content)


def test_task_table_exactly():
    text = task_table(document(), 1, LAST)
    assert text == '''\
SSUL-M on shapes 4-1, overlapped, seed 0, task 1: mIoU in percent

|  base |   new |   all | forgetting |
|------:|------:|------:|-----------:|
| 77.12 | 41.50 | 71.19 |       3.60 |

Forgetting: points lost since a class was learned, the mean over the old classes; negative is a gain.

IoU in percent:

| class      |    IoU | class  |   IoU | class  |   IoU | class | IoU |
|------------|-------:|--------|------:|--------|------:|-------|----:|
| background | 100.00 | circle | 90.00 | square | 80.00 | star  | n/a |
| ring       |  57.50 | cross  | 41.50 |        |       |       |     |

In no test mask: 1 of 5 classes (star); the IoU of such a class is 0 if it is predicted anywhere, else n/a.
'''
    assert '\n\nBase is of background alone' in task_table(document(), 1, LAST | dict(mIoU_base_no_background=None))


def test_scenario_table_before_any_task():
    text = scenario_table(document() | dict(tasks=[]))
    assert text.startswith('SSUL-M on shapes') and 'after task' not in text


def test_comparison_table_exactly():
    runs = [dict(base=70.0, new=40.0, all=60.0), dict(base=72.0, new=40.0, all=61.0)]
    rows = [dict(method='SSUL', runs=runs, paper=[77.31, 36.59, 67.61]),
            dict(method='fine-tuning', runs=[dict(base=1.5, new=None, all=1.0)])]
    assert comparison_table(rows) == '''\
| method      |         base |          new |          all | seeds | base (paper) | new (paper) | all (paper) |
|-------------|-------------:|-------------:|-------------:|------:|-------------:|------------:|------------:|
| SSUL        | 71.00 ± 1.41 | 40.00 ± 0.00 | 60.50 ± 0.71 |     2 |        77.31 |       36.59 |       67.61 |
| fine-tuning |         1.50 |          n/a |         1.00 |     1 |          n/a |         n/a |         n/a |
'''
    assert 'paper' not in comparison_table(rows[1:])


@pytest.mark.parametrize('seconds, text', [(0, '0:00'), (59.6, '1:00'), (61, '1:01'), (3599.6, '1:00:00'),
                                           (7325, '2:02:05'), (360_000, '100:00:00')])
def test_duration(seconds, text):
    assert duration(seconds) == text
