"""A user's mistake is one sentence, a mistake in code keeps its traceback."""
import os
from collections import OrderedDict

import numpy
import pytest
import torch
from mmengine.logging import MMLogger
from mmseg.registry import MODELS
from tiny import tiny_config, voc_tree

from ssul_mmseg import cli
from ssul_mmseg.engine.config_faults import config_faults, is_programming_error
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.methods.ssul import SSUL


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', 24)


def mistake(kind):
    """The error that a mistake of a method's author raises."""
    try:
        if kind == 'name':
            undefined + 1  # noqa: F821
        elif kind == 'attribute':
            torch.nn.Linear(1, 1).wieght  # noqa: B018
        elif kind == 'argument':
            torch.zeros(1).sum(dimension=0)
        else:
            torch.nn.Linear(1, 1).no_such_method()
    except Exception as error:
        return error


@pytest.mark.parametrize('kind', ['name', 'attribute', 'argument', 'method'])
def test_wrong_code_is_distinguished_from_wrong_values(kind):
    assert is_programming_error(mistake(kind))
    with pytest.raises(type(mistake(kind))), config_faults(None):
        raise mistake(kind)


def test_a_library_that_is_given_a_wrong_value_is_no_wrong_code(tree, tmp_path):
    for key, value in (('model.backbone.depth', '18'), ('model.backbone.widthh', 3), ('model.backbone.strides', None)):
        cfg = tiny_config(tree, tmp_path)
        cfg.merge_from_dict({key: value})
        with pytest.raises(InputError, match='cannot be used'), config_faults(cfg):
            MODELS.build(dict(cfg.model, decode_head=dict(cfg.model.decode_head, classes_per_task=(2, ))))
    with pytest.raises(TypeError) as error:
        os.path.isfile(None)  # in a module that Python holds frozen, without a file
    assert not is_programming_error(error.value)
    with pytest.raises(TypeError) as error:
        numpy.random.seed('map')  # in compiled code, whose source is not installed
    assert not is_programming_error(error.value)
    assert not is_programming_error(ValueError('a value'))


@MODELS.register_module()
class Misspelt(SSUL):
    """A method with a typing error in its loss."""

    def losses(self, batch):
        return {'loss': batch.featuers.sum()}


def test_a_typing_error_in_a_method_reaches_its_author(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(MMLogger, '_instance_dict', OrderedDict())
    cfg = tiny_config(tree, tmp_path, **{'scenario.name': '19-1', 'model.type': 'Misspelt'})
    with pytest.raises(AttributeError, match='featuers') as error:
        run_scenario(cfg)
    assert error.traceback[-1].name == 'losses'
    log, = (tmp_path / 'task_0').rglob('*.log')
    assert 'Traceback' in log.read_text() and "has no attribute 'featuers'" in log.read_text()


def test_the_traceback_of_a_users_mistake_is_in_the_log_and_on_demand_on_screen(tree, tmp_path, monkeypatch, capsys):
    # mmengine gives two runs that begin within a second one logger.
    monkeypatch.setattr(MMLogger, '_instance_dict', OrderedDict())
    cfg = tiny_config(tree, tmp_path, **{'scenario.name': '19-1', 'optim_wrapper.optimizer.lr': 1e30})
    monkeypatch.setattr('sys.argv', ['train.py', '--traceback'])
    with pytest.raises(SystemExit) as end:
        cli.run(lambda _: run_scenario(cfg))
    log, = (tmp_path / 'task_0').rglob('*.log')
    screen = capsys.readouterr().err
    assert end.value.code == 2 and 'Traceback' in log.read_text()
    assert 'Traceback' in screen and screen.splitlines()[-1].startswith('error: the loss of task 0 is')


