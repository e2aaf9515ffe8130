"""A task's runner: what reaches the screen, and what is wrong with a config."""
import logging

import pytest
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.runner import config_faults_told, task_runner


def test_the_console_shows_warnings_alone_and_the_file_all(tmp_path):
    cfg = task_config(tiny_config(voc_tree(tmp_path / 'voc'), tmp_path / 'run'), 0)
    runner = task_runner(cfg)
    levels = {isinstance(handler, logging.FileHandler): handler.level for handler in runner.logger.handlers}
    assert levels == {False: logging.WARNING, True: logging.INFO}
    assert runner.optim_wrapper.optimizer.param_groups[0]['lr'] == .01  # built before training


@pytest.mark.parametrize('key, value, words', [
    ('optim_wrapper.type', 'OptimWraper', 'OptimWraper'), ('model.backbone.depth', 19, 'depth'),
    ('param_scheduler.0.type', 'Poly', 'Poly'),
])
def test_what_a_config_names_and_nobody_knows_is_told_before_training(tmp_path, key, value, words):
    cfg = tiny_config(voc_tree(tmp_path / 'voc'), tmp_path / 'run')
    cfg.merge_from_dict({key: value})
    with pytest.raises(InputError, match=rf'the config .*voc_15-1\.py cannot be used .*{words}'):
        task_runner(task_config(cfg, 0))
    assert not list((tmp_path / 'run').glob('task_0/*.pth'))


def test_errors_of_machine_and_data_are_not_those_of_the_config():
    @config_faults_told
    def use(cfg, error):
        raise error
    for error in (InputError('a'), OSError(28, 'full'), MemoryError()):
        with pytest.raises(type(error)):
            use(None, error)
