"""The network of the task before: two filters, a second network, or one that shares its frozen backbone."""
import pytest
import torch
from mmengine.hooks import Hook
from mmseg.registry import HOOKS, MODELS
from tiny import samples_of, started, tiny_config, tiny_model, voc_tree

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


def test_with_a_frozen_trunk_the_old_model_is_two_filters():
    old = tiny_model([3])
    model = started(tiny_model([3, 1]), old)
    assert model.old_model._network is None and set(model.old_model._dummies) == {'background', 'unknown'}
    inputs, labels = torch.randn(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.uint8)
    with torch.no_grad():  # as after some training
        for name in ('background', 'unknown', 'task_1'):
            model.decode_head.classifiers[name][-1].weight.add_(1)
        expected = old.eval().decode_head(old.extract_feat(inputs))
        torch.testing.assert_close(model.old_model.logits(model.batch_of(inputs, labels)), expected)


def test_without_freezing_the_old_model_is_a_second_network():
    old = tiny_model([3])
    model = started(tiny_model([3, 1], freeze=False), old)
    assert all(p.requires_grad for p in model.parameters())
    assert not any('old' in name for name in [*model.state_dict(), *(n for n, _ in model.named_parameters())])
    inputs, labels = torch.randn(2, 3, 40, 40), torch.randint(0, 5, (2, 40, 40), dtype=torch.uint8)
    optimizer = torch.optim.SGD(model.parameters(), lr=.5)
    model.loss(inputs, samples_of(labels))['loss_bce'].backward()
    optimizer.step()
    with torch.no_grad():
        expected = old.eval().decode_head(old.extract_feat(inputs))
        found = model.old_model.logits(model.batch_of(inputs, labels))
    torch.testing.assert_close(found, expected)


def test_a_frozen_pretrained_backbone_in_task_0_is_shared_by_the_old_model():
    old = tiny_model([3], 'SSUL', freeze_backbone=True)
    assert old.frozen_prefix == 'backbone' and not old.train().backbone.training
    model = started(tiny_model([3, 1], 'SSUL', freeze=False, freeze_backbone=True), old)
    inputs, labels = torch.randn(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.uint8)
    assert model.old_model._network.backbone is model.backbone
    batch = model.batch_of(inputs, labels)
    with torch.no_grad():
        expected = old.eval().decode_head(old.extract_feat(inputs))
        torch.testing.assert_close(model.old_model.logits(batch), expected)
        batch.inputs = None  # as it comes from the cache
        torch.testing.assert_close(model.old_model.logits(batch), expected)
