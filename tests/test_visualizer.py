"""The scalars of a run: one series over all tasks, by any backend."""
import json

import pytest
from mmengine.visualization import Visualizer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.work_dir.files import read_json

TENSORBOARD = dict(vis_backends=[dict(type='TensorboardVisBackend')])
# Two epochs of 9 batches, then of one: the new classes are in few images.
STEPS, ENDS = [9, 18, 19, 20, 21, 22], [18, 20, 22]


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc')


def config(tree, work_dir, **options):
    return tiny_config(tree, work_dir, **{'scenario.name': '18-1', **options})


def series(work_dir):
    """What TensorBoard shows of a run: (step, value) by tag."""
    events = EventAccumulator(str(work_dir / 'vis_data'))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()['scalars']}


def test_tensorboard_shows_one_series_over_all_tasks(tree, tmp_path):
    result = run_scenario(config(tree, tmp_path, visualizer=TENSORBOARD))
    shown = series(tmp_path)
    for tag in ('loss', 'loss_bce', 'lr'):
        steps = [step for step, _ in shown[tag]]
        assert steps == sorted(set(steps)) == STEPS
    assert shown['lr'][3][1] < shown['lr'][2][1] == pytest.approx(.01) and shown['lr'][4][1] == pytest.approx(.01)
    for column in ('base', 'new', 'all'):
        known = [(end, task['mIoU'][column]) for end, task in zip(ENDS, result['tasks'], strict=True)
                 if task['mIoU'][column] is not None]
        assert [step for step, _ in shown[f'mIoU/{column}']] == [step for step, _ in known]
        assert [value for _, value in shown[f'mIoU/{column}']] == pytest.approx([value for _, value in known])
    last = {f'IoU/{name}': value for name, value in result['tasks'][-1]['IoU'].items() if value is not None}
    assert len(last) == 21 and {tag: shown[tag][-1][1] for tag in last} == pytest.approx(last)
    assert [step for step, _ in shown['IoU/tvmonitor']] == [22] and [step for step, _ in shown['IoU/train']] == [20, 22]
    assert len(list((tmp_path / 'vis_data').glob('events*'))) == 1  # one experiment, not one a task
    assert not [name for name in Visualizer._instance_dict if str(tmp_path) in name]


def test_steps_go_on_where_a_run_is_continued_or_starts_from_another(tree, tmp_path):
    run_scenario(config(tree, tmp_path / 'a', visualizer=TENSORBOARD), range(1))
    cfg = config(tree, tmp_path / 'a', visualizer=TENSORBOARD)
    run_scenario(cfg, resume=True)
    assert [step for step, _ in series(tmp_path / 'a')['loss']] == STEPS
    run_scenario(config(tree, tmp_path / 'b', visualizer=TENSORBOARD), range(2, 3), start_from=tmp_path / 'a')
    assert [step for step, _ in series(tmp_path / 'b')['loss']] == [21, 22]
    # A task that was killed between its training and its result is only evaluated, and recorded too.
    (tmp_path / 'b/task_2/result.json').unlink()
    run_scenario(config(tree, tmp_path / 'b', visualizer=TENSORBOARD), range(2, 3), resume=True)
    assert [step for step, _ in series(tmp_path / 'b')['mIoU/all']] == [22, 22]


def test_without_a_choice_a_json_file_holds_the_series(tree, tmp_path):
    result = run_scenario(config(tree, tmp_path))
    rows = [json.loads(line) for line in (tmp_path / 'vis_data/scalars.json').read_text().splitlines()]
    assert [row['step'] for row in rows] == sorted(STEPS + ENDS)
    assert [row['mIoU/all'] for row in rows if 'mIoU/all' in row] == [task['mIoU']['all'] for task in result['tasks']]
    assert not list(tmp_path.glob('task_*/*/vis_data'))
    assert read_json(tmp_path / 'results.json') == result


def test_a_visualizer_of_mmsegs_configs_is_replaced_and_others_are_refused(tree, tmp_path):
    base = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer', alpha=.5)
    made = task_config(config(tree, tmp_path, visualizer=base), 0).visualizer
    assert made.type == 'ScenarioVisualizer' and made.alpha == .5 and str(tmp_path) in made.name
    for kind in ('LocalVisBackend', 'Nothing'):
        with pytest.raises(InputError, match=rf'visualizer\.type is {kind}, .* leave it out'):
            task_config(config(tree, tmp_path, visualizer=dict(type=kind)), 0)


def test_a_backend_that_does_not_exist_is_one_sentence(tree, tmp_path):
    with pytest.raises(InputError, match=r'the config .* cannot be used .*NoVisBackend'):
        run_scenario(config(tree, tmp_path, visualizer=dict(vis_backends=[dict(type='NoVisBackend')])))


def test_names_of_classes_fit_into_tags(tree, tmp_path):
    """MLflow takes no other characters than letters, digits and a few more; a slash would make a group."""
    names = ['background', *(f'c{i}' for i in range(1, 20)), "men's shoe / <left>"]
    classes = {f'{part}_dataloader.dataset.dataset.metainfo': dict(classes=names) for part in ('train', 'test')}
    classes |= {f'{part}_dataloader.dataset.dataset.type': 'BaseSegDataset' for part in ('train', 'test')}
    run_scenario(config(tree, tmp_path, **classes))
    assert '"IoU/men_s shoe _ _left_"' in (tmp_path / 'vis_data/scalars.json').read_text()
