"""Numbers that are none end a run before anything is overwritten."""
import pytest
import torch
from mmseg.registry import MODELS
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.methods.ssul import SSUL


@MODELS.register_module()
class Spoiling(SSUL):
    """Ends a task with a filter that is no number, or with such a state; its losses are fine."""

    spoils = 'weights'

    def finish_task(self, loader):
        value = torch.tensor(float('nan'))
        if self.spoils == 'weights':
            self.decode_head.classifiers['unknown'][-1].bias.data.fill_(value)
        return {'scale': value} if self.spoils == 'state' else {}


@pytest.mark.parametrize('spoils, name', [
    ('weights', r'state_dict\.decode_head\.classifiers\.unknown'), ('state', r'method_state\.scale')])
def test_weights_and_states_that_are_no_numbers_are_not_saved(tmp_path, monkeypatch, spoils, name):
    monkeypatch.setattr(Spoiling, 'spoils', spoils)
    cfg = tiny_config(voc_tree(tmp_path / 'voc', 24), tmp_path / 'run', **{
        'scenario.name': '19-1', 'train_cfg.max_epochs': 1, 'model.type': 'Spoiling'})
    with pytest.raises(InputError, match=rf'{name}.* holds a number that is NaN or infinite after \d+ iterations'):
        run_scenario(cfg)
    assert not list((tmp_path / 'run').rglob('*.pth'))
