"""The segmentor on other backbones, from old weights, and at other sizes."""
import pytest
import torch
from mmengine.hooks import Hook
from mmseg.registry import HOOKS, MODELS
from tiny import samples_of, started, tiny_config, tiny_model, voc_tree
from torch import nn

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.models.segmentors import IncrementalSegmentor, OldTask
from ssul_mmseg.scenario import UNKNOWN

NORM = dict(type='BN')
RESNET = dict(type='ResNet', depth=18, base_channels=4, num_stages=4, norm_cfg=NORM, dilations=(1, 1, 1, 2),
              strides=(1, 2, 2, 1))
# Network below the head, channels of the feature map for the head, and which map it is.
BACKBONES = {
    'ResNet-18': (dict(backbone=dict(RESNET, out_indices=(3, ))), 32, 0),
    'ResNet-101': (dict(backbone=dict(RESNET, type='ResNetV1c', depth=101, base_channels=2, stem_channels=4,
                                     out_indices=(3, ))), 64, 0),
    'FPN': (dict(backbone=dict(RESNET, out_indices=(0, 1, 2, 3)),
                 neck=dict(type='FPN', in_channels=[4, 8, 16, 32], out_channels=8, num_outs=4)), 8, 1),
    'MobileNetV2': (dict(backbone=dict(
        type='MobileNetV2', widen_factor=.25, strides=(1, 2, 2, 1, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4, 4),
        out_indices=(1, 2, 4, 6), norm_cfg=NORM)), 80, 3),
    'MiT': (dict(backbone=dict(
        type='MixVisionTransformer', embed_dims=4, num_stages=4, num_layers=[1] * 4, num_heads=[1, 2, 4, 8],
        patch_sizes=[7, 3, 3, 3], sr_ratios=[8, 4, 2, 1], out_indices=(0, 1, 2, 3), mlp_ratio=2)), 32, 3),
}


@MODELS.register_module()
class FrozenBackbone(IncrementalSegmentor):
    """A method that freezes its backbone."""

    def frozen_modules(self):
        return [self.backbone]


def build(name, classes_per_task, **options):
    network, channels, index = BACKBONES[name]
    torch.manual_seed(0)
    return MODELS.build(dict(type='SSUL', **network, decode_head=dict(
        type='IncrementalASPPHead', in_channels=channels, in_index=index, channels=8, dilations=(1, 2), norm_cfg=NORM,
        dropout_ratio=0, classes_per_task=classes_per_task), **options))


@pytest.mark.parametrize('name', BACKBONES)
def test_every_network_learns_a_base_task_and_then_only_the_new_classes(name):
    inputs, labels = torch.randn(2, 3, 64, 64), torch.randint(0, 4, (2, 64, 64), dtype=torch.uint8)
    base = build(name, [2])
    base.init_weights()
    sum(base.loss(inputs, samples_of(labels.clamp(max=2))).values()).backward()
    # A backbone that gives one of its maps away may hold parameters that only the others need.
    learning = {key.split('.')[0] for key, p in base.named_parameters() if p.grad is not None and p.grad.any()}
    assert learning == {'backbone', 'decode_head', *(['neck'] if name == 'FPN' else [])}
    model = build(name, [2, 1])
    model.start_task(OldTask(base.state_dict()))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=.1, weight_decay=.1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    sum(model.train().loss(inputs, samples_of(labels)).values()).backward()
    optimizer.step()
    assert {key.split('.')[2] for key, value in model.state_dict().items() if not torch.equal(value, before[key])} == {
        'background', 'task_1', 'unknown'}
    predicted = model.eval().predict(inputs)[0].pred_sem_seg.data
    assert predicted.shape == (1, 64, 64) and predicted.dtype == torch.uint8


def test_a_frozen_backbone_stays_in_evaluation_mode_and_the_head_goes_on_learning():
    model = started(tiny_model([3, 2], 'FrozenBackbone'), tiny_model([3]))
    assert model.training and model.decode_head.training
    assert model.frozen_prefix == 'backbone' and not model.trunk_frozen
    assert not any(module.training for module in model.backbone.modules())
    assert not any(p.requires_grad for p in model.backbone.parameters())
    inputs, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 6, (2, 32, 32), dtype=torch.uint8)
    sum(model.loss(inputs, samples_of(labels)).values()).backward()
    learning = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert learning == {key for key in model.state_dict()
                        if key.startswith('decode_head.') and key.endswith(('weight', 'bias'))}


def test_only_a_trunk_frozen_in_all_its_parts_asks_for_no_gradient():
    inputs, plain = torch.randn(2, 3, 32, 32), tiny_model([3], 'FineTuning')
    assert plain.frozen_prefix is None and plain.trunk(inputs).requires_grad
    with torch.no_grad():
        assert not plain.trunk(inputs).requires_grad
    assert not any(module.training for module in plain.eval().modules())
    for name in ('FPN', 'ResNet-18'):
        model = build(name, [3, 2])
        assert model.trunk_frozen and not model.trunk(inputs).requires_grad
        modules = model.trunk_modules()
        for left_out in modules:
            model.frozen_modules = lambda kept=[part for part in modules if part is not left_out]: kept
            assert not model.trunk_frozen, left_out
            assert model.frozen_prefix == (None if left_out is model.backbone else 'backbone')


@pytest.mark.parametrize('name', ['FineTuning', 'FrozenBackbone'])
def test_what_is_kept_loses_what_images_lose(name):
    model = tiny_model([3], name).train()
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
