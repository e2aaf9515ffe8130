"""The network of a learned task, from its config and weights alone."""
import shutil

import pytest
import torch
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine.learned_network import learned_network
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.work_dir.weights import load_state


def test_a_learned_network_has_the_weights_of_its_task_and_needs_no_data(tmp_path):
    tree = voc_tree(tmp_path / 'voc', 20)
    cfg = tiny_config(tree, tmp_path / 'work', **{'scenario.name': '19-1', 'train_cfg.max_epochs': 1})
    run_scenario(cfg)
    shutil.rmtree(tree)
    for task in (0, 1):
        found = learned_network(cfg, task)
        expected = load_state(tmp_path / f'work/task_{task}/weights.pth')['state_dict']
        state = found.model.state_dict()
        assert state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in state)
        assert not found.model.training and found.model.task == found.weights.task == task
        assert len(found.weights.classes) == 19 + task
    (tmp_path / 'work/task_1/weights.pth').unlink()
    with pytest.raises(InputError, match=r'weights .*task_1/weights\.pth are missing'):
        learned_network(cfg, 1)
