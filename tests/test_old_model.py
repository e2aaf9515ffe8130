"""The old model in a run: what it says at the end of a task is what the network of the task before says."""
import pytest
import torch
from mmengine.hooks import Hook
from mmseg.registry import HOOKS, MODELS
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import network_config
from ssul_mmseg.work_dir.layout import WEIGHTS
from ssul_mmseg.work_dir.weights import read_weights

NECK = {'model.neck': dict(type='FPN', in_channels=[32], out_channels=8, num_outs=1, norm_cfg=dict(type='BN')),
        'model.decode_head.in_channels': 8}


@HOOKS.register_module()
class AskOldModel(Hook):
    """Asks the old model, after the last iteration of a task, and the network of the task before."""

    found = expected = None

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.task == 0 or runner.iter < runner.max_iters - 1:
            return
        run, model, before = runner.scenario_run, runner.model, runner.task - 1
        network = MODELS.build(network_config(run.config, before).model)
        network.load_state_dict(read_weights(run.folder(before) / WEIGHTS, before).state_dict)
        data = model.data_preprocessor(data_batch, True)
        labels = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])
        AskOldModel.found = model.old_model.logits(model.batch_of(data['inputs'], labels))
        AskOldModel.expected = network.eval()(data['inputs'], mode='tensor')


@pytest.mark.parametrize('options', [
    {}, {'model.decode_head.classifier': 'conv'}, {'model.freeze': False},
    {'model.freeze': False, 'model.decode_head.classifier': 'conv'},
    {'model.freeze': False, 'model.freeze_backbone': True, **NECK}], ids=str)
def test_the_old_model_is_the_network_of_the_task_before_to_the_end(tmp_path, options):
    cfg = tiny_config(voc_tree(tmp_path / 'voc', 24), tmp_path / 'run', **{'scenario.name': '15-5', **options})
    cfg.optim_wrapper.optimizer.lr = .1  # far from its start, if it learned
    cfg.custom_hooks = [dict(type='AskOldModel')]
    AskOldModel.found = None
    run_scenario(cfg)
    assert AskOldModel.found.shape[1] == 17 and AskOldModel.expected.std() > 0
    torch.testing.assert_close(AskOldModel.found, AskOldModel.expected, rtol=1e-4, atol=1e-5)
