"""Frozen means frozen, also where a method forgets it."""
import pytest
from mmseg.registry import MODELS
from tiny import started, tiny_config, tiny_model, voc_tree

from ssul_mmseg.engine.freeze_hook import frozen_digests
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.methods.ssul import SSUL


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
