"""The segmentor's losses of images and of what is kept of them, and its options."""
import pytest
import torch
from mmengine.hooks import Hook
from mmseg.registry import HOOKS
from test_partly_frozen import BACKBONES
from tiny import samples_of, started, tiny_config, tiny_model, voc_tree
from torch import nn

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.scenario import UNKNOWN


@pytest.mark.parametrize('freeze_backbone', [False, True])
def test_what_is_kept_loses_what_images_lose(freeze_backbone):
    model = tiny_model([3], 'FineTuning', freeze_backbone=freeze_backbone).train()
    inputs, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 1, 3, UNKNOWN]).repeat(2, 32, 8)
    expected = model(inputs, samples_of(labels), mode='loss')
    assert model(*model.keep(inputs, labels), mode='kept') == expected and expected['loss_bce'] > 0


def test_kept_features_of_a_frozen_trunk_lose_what_images_lose():
    model = started(tiny_model([3, 1]), tiny_model([3]))
    inputs, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 4, 4, UNKNOWN]).repeat(2, 32, 8)
    kept, finished = model.keep(inputs, labels)
    assert finished.dtype == torch.uint8 and len(kept) == 1 and kept[0].shape[:2] == (2, 8)
    expected = model(inputs, samples_of(labels), mode='loss')
    assert model(kept, finished, mode='kept') == expected


@pytest.mark.parametrize('freeze_backbone', [False, True])
def test_the_old_model_is_asked_before_anything_learns_and_without_gradients(freeze_backbone):
    model = tiny_model([3], 'FineTuning', freeze_backbone=freeze_backbone).train()
    calls = []

    def ask(batch):
        calls.append('asked')
        assert not torch.is_grad_enabled() and not batch.features.numel() and not batch.targets.numel()
        assert len(batch.prefix) == freeze_backbone and len(batch.labels) == 2
        return {'answer': batch.labels}
    model.ask_old_model = ask
    learning = model.decode_head if freeze_backbone else model.backbone
    learning.register_forward_pre_hook(lambda *_: calls.append('ran'))
    model.decode_head.aspp_modules.register_forward_pre_hook(lambda *_: calls.append('ran'))
    inputs, labels = torch.randn(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.uint8)
    assert torch.equal(model.batch_of(inputs, labels).old['answer'], labels) and calls[0] == 'asked'
    assert calls.count('asked') == 1 and 'ran' in calls
    if freeze_backbone:
        model(*model.keep(inputs, labels), mode='kept')
        assert calls.count('asked') == 2


def test_an_option_of_merging_must_be_known():
    with pytest.raises(InputError, match=r"model\.merge_unknown is 'max'; choose one of labels, scores"):
        tiny_model([3], merge_unknown='max')


@HOOKS.register_module()
class WatchLayout(Hook):
    """Notes, by task, whether images and filters meet in the backbone in channels-last layout."""

    seen = None

    def before_train(self, runner):
        backbone = runner.model.backbone
        layers = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)]

        def note(module, inputs):
            tensors = [*inputs, *(layer.weight for layer in layers)]
            layouts = [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in tensors]
            WatchLayout.seen.add((runner.task, *layouts))

        backbone.register_forward_pre_hook(note)


def test_channels_last_reaches_the_convolutions_of_every_task_of_a_run(tmp_path):
    cfg = tiny_config(voc_tree(tmp_path / 'voc', 24), tmp_path / 'run', **{
        'scenario.name': '18-2', 'train_cfg.max_epochs': 1})
    cfg.model.backbone = BACKBONES['MobileNetV2'][0]['backbone']
    cfg.model.decode_head.update(in_channels=80, in_index=-1)
    cfg.custom_hooks = [dict(type='WatchLayout')]
    WatchLayout.seen = set()
    run_scenario(cfg)
    assert {task for task, *_ in WatchLayout.seen} == {0, 1} and all(all(last) for _, *last in WatchLayout.seen)
