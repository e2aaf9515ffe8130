"""Frozen means frozen, also where a method forgets it."""
import pytest
import torch
from mmseg.registry import MODELS
from tiny import started, tiny_config, tiny_model, voc_tree

from ssul_mmseg.engine.freeze_hook import frozen_digests
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.methods.ssul import SSUL
from ssul_mmseg.work_dir.weights import load_state


def test_digests_see_every_frozen_tensor_and_nothing_else():
    model = started(tiny_model([2, 1]), tiny_model([2]))
    before = frozen_digests(model)
    model.decode_head.classifiers['task_1'][-1].weight.data.add_(1)
    model.decode_head.classifiers['unknown'][-1].weight.data.add_(1)
    assert frozen_digests(model) == before
    model.backbone.bn1.running_mean[0] += 1e-6
    assert sum(frozen_digests(model)[key] != before[key] for key in before) == 1
    model.decode_head.classifiers['task_0'][-1].bias.data[0] += 1e-6
    assert sum(frozen_digests(model)[key] != before[key] for key in before) == 2
    assert frozen_digests(tiny_model([2])) == {}


@MODELS.register_module()
class ForgetfulSSUL(SSUL):
    """A method that lets the BatchNorm of its frozen trunk learn statistics."""

    def train(self, mode=True):
        super().train(mode)
        self.backbone.train(mode)
        return self


def test_a_run_whose_frozen_trunk_moves_ends_before_its_weights_are_written(tmp_path):
    cfg = tiny_config(voc_tree(tmp_path / 'voc', 24), tmp_path / 'work', **{
        'scenario.name': '18-2', 'train_cfg.max_epochs': 1, 'model.type': 'ForgetfulSSUL'})
    with pytest.raises(RuntimeError, match='frozen tensors moved in task 1'):
        run_scenario(cfg)
    assert (tmp_path / 'work/task_0/weights.pth').exists() and not (tmp_path / 'work/task_1/weights.pth').exists()


def test_a_neck_is_frozen_with_the_rest_of_the_trunk(tmp_path):
    """Statistics of its BatchNorm too, which move without a gradient."""
    cfg = tiny_config(voc_tree(tmp_path / 'voc', 24), tmp_path / 'work', **{
        'scenario.name': '18-2', 'train_cfg.max_epochs': 1, 'model.decode_head.in_channels': 8,
        'model.neck': dict(type='FPN', in_channels=[32], out_channels=8, num_outs=1, norm_cfg=dict(type='BN'))})
    run_scenario(cfg)
    before, after = (load_state(tmp_path / f'work/task_{task}/weights.pth')['state_dict'] for task in (0, 1))
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert any(key.startswith('neck.') for key in before)
    assert {key.split('.')[2] for key in moved} == {'background', 'unknown'}
