"""What the tasks of a run share is made once."""
import pytest
from mmseg.registry import DATASETS
from tiny import tiny_config, voc_tree

from ssul_mmseg.datasets import task_dataset
from ssul_mmseg.datasets.task_dataset import TaskDataset
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc')


def test_six_tasks_build_their_data_once(tree, tmp_path, monkeypatch):
    built, chosen = [], []
    build, choose = task_dataset.build_source, TaskDataset._choose
    monkeypatch.setattr(task_dataset, 'build_source',
                        lambda config, test_mode: built.append(test_mode) or build(config, test_mode))
    monkeypatch.setattr(TaskDataset, '_choose', lambda self, task, exemplars: (
        chosen.append((self.test_mode, task, exemplars is not None)), choose(self, task, exemplars))[1])
    options = {'train_cfg.max_epochs': 1, 'memory.size': 20, 'feature_cache': dict(views=1)}
    document = run_scenario(tiny_config(tree, tmp_path, 'configs/ssul/voc_15-1_m.py', **options))
    assert len(document['tasks']) == 6
    assert sorted(built) == [False, True]  # the training and the test data
    assert chosen.count((True, 0, False)) == 1
    # Each task's images are chosen when they are checked and when they are trained, then with exemplars.
    assert [task for test, task, exemplars in chosen if exemplars] == [1, 2, 3, 4, 5]


def test_a_task_with_other_data_has_its_own(tree, tmp_path):
    cfg = tiny_config(tree, tmp_path, **{'scenario.name': '19-1'})
    cfg.incremental = dict(train_dataloader=dict(dataset=dict(saliency_dir='Other')))
    run = Run(cfg)
    first = run.train_data(task_config(cfg, 0), 0)
    with pytest.raises(InputError, match=r'saliency map .*Other'):
        run.train_data(task_config(cfg, 1), 1)
    again = run.train_data(task_config(cfg, 0), 0)
    assert again.source is first.source and again is not first


def test_a_data_set_of_a_task_is_that_which_its_config_describes(tree, tmp_path):
    cfg = tiny_config(tree, tmp_path)
    run = Run(cfg)
    for task in (3, 0, 5):
        config = task_config(cfg, task)
        ours, plain = run.train_data(config, task), DATASETS.build(config.train_dataloader.dataset)
        assert ours.digest() == plain.digest() and ours.task == task and len(ours) == len(plain)
        assert [sample['img_path'] for sample in map(ours.source.get_data_info, range(2))]


def test_the_name_in_tables_is_the_models_or_the_configs_with_a_mark_for_memory(tree, tmp_path):
    for options, name in (({}, 'SSUL'), (dict(method='mine'), 'mine'), (dict(memory=dict(size=3)), 'SSUL-M'),
                          (dict(method='my-M', memory=dict(size=3)), 'my-M')):
        assert Run(tiny_config(tree, tmp_path, **options)).name == name
    with pytest.raises(InputError, match=r'memory\.size is not set'):
        Run(tiny_config(tree, tmp_path, memory=dict(labels='seen')))
