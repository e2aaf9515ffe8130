"""What is frozen of a network, on several backbones, and what passes it."""
import pytest
import torch
from mmseg.registry import MODELS
from tiny import samples_of, started, tiny_model

from ssul_mmseg.models.segmentors import OldTask

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
    model = started(tiny_model([3, 2], 'FineTuning', freeze_backbone=True), tiny_model([3]))
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


@pytest.mark.parametrize(('options', 'prefix'), [
    (dict(model_type='FineTuning'), None),
    (dict(model_type='FineTuning', freeze_backbone=True), 'backbone'),
    (dict(), 'trunk'),
    (dict(freeze=False), None),
    (dict(freeze=False, freeze_backbone=True), 'backbone')], ids=str)
def test_what_no_later_task_changes_makes_the_features(options, prefix):
    model, inputs = tiny_model([3, 2], **options).eval(), torch.randn(2, 3, 32, 32)
    assert model.fixed_prefix == prefix
    if prefix:
        fixed = model.fixed_part(inputs)
        assert torch.equal(model.features_of(fixed), model.trunk(inputs))
        assert torch.equal(fixed[0], model.trunk(inputs) if prefix == 'trunk' else model.backbone(inputs)[0])
        below = ('backbone.', 'decode_head.') if prefix == 'trunk' else ('backbone.', )
        keys = {key for key in model.state_dict() if key.startswith(below) and '.classifiers.' not in key}
        assert set(model.fixed_state()) == keys
