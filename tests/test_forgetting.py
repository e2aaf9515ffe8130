"""What was forgotten since a class was learned, by hand."""
import json

import pytest
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.evaluation.forgetting import forgetting


def test_forgetting_is_the_mean_drop_since_a_class_was_learned():
    now = dict(background=90., a=50., b=50., c=0., d=10.)
    found = forgetting(now, [dict(a=80., b=40.), dict(c=30.)])
    assert found == {'forgetting': pytest.approx((30 - 10 + 30) / 3), 'forgetting_per_task': [10, 30]}


def test_what_is_absent_now_or_then_counts_in_no_mean():
    found = forgetting(dict(a=50., b=None), [dict(a=None, b=40.), dict(c=30.)])
    assert found == {'forgetting': None, 'forgetting_per_task': [None, None]}
    assert forgetting(dict(a=50.), []) == {'forgetting': None, 'forgetting_per_task': []}


def test_a_class_that_no_pixel_is_labelled_as_dilutes_no_mean():
    found = forgetting(dict(a=50., b=0.), [dict(a=80., b=0.)], absent=['b'])
    assert found == {'forgetting': 30, 'forgetting_per_task': [30]}


def test_a_run_counts_from_the_task_that_learned_a_class(tmp_path):
    """Not from the task before: earlier results are set to what no task has left of its classes."""
    cfg = tiny_config(voc_tree(tmp_path / 'voc', 24), tmp_path / 'run', **{
        'scenario.name': '18-1', 'train_cfg.max_epochs': 1})
    names = [task['classes'] for task in run_scenario(cfg, range(2))['tasks']]
    for task, values in enumerate([[60.], [20., 40.]]):
        path = tmp_path / f'run/task_{task}/result.json'
        entry = json.loads(path.read_text())
        for classes, value in zip(names, values, strict=False):
            entry['IoU'].update(dict.fromkeys(classes, value))
        path.write_text(json.dumps(entry))
    entry = run_scenario(cfg, range(2, 3))['tasks'][2]
    lost = [[60 - entry['IoU'][name] for name in names[0]], [40 - entry['IoU'][name] for name in names[1]]]
    assert list(map(len, lost)) == [18, 1]
    assert entry['forgetting_per_task'] == pytest.approx([sum(lost[0]) / 18, lost[1][0]])
    assert entry['forgetting'] == pytest.approx(sum(map(sum, lost)) / 19)
