"""The segmentor on other backbones, from old weights, and at other sizes."""
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tiny import samples_of, tiny_model

from ssul_mmseg.errors import InputError

NORM = dict(type='BN')
BACKBONES = {
    'ResNet-18': (dict(type='ResNet', depth=18, base_channels=4, num_stages=4, out_indices=(3, ), norm_cfg=NORM,
                       dilations=(1, 1, 1, 2), strides=(1, 2, 2, 1)), 32, 0),
    'ResNet-101': (dict(type='ResNetV1c', depth=101, base_channels=2, stem_channels=4, num_stages=4, out_indices=(3, ),
                        norm_cfg=NORM, dilations=(1, 1, 1, 2), strides=(1, 2, 2, 1)), 64, 0),
    'MobileNetV2': (dict(type='MobileNetV2', widen_factor=.25, strides=(1, 2, 2, 1, 1, 1, 1),
                         dilations=(1, 1, 1, 2, 2, 4, 4), out_indices=(1, 2, 4, 6), norm_cfg=NORM), 80, 3),
    'MiT': (dict(type='MixVisionTransformer', embed_dims=4, num_stages=4, num_layers=[1] * 4, num_heads=[1, 2, 4, 8],
                 patch_sizes=[7, 3, 3, 3], sr_ratios=[8, 4, 2, 1], out_indices=(0, 1, 2, 3), mlp_ratio=2), 32, 3),
}


def build(name, classes_per_task):
    backbone, channels, index = BACKBONES[name]
    torch.manual_seed(0)
    return MODELS.build(dict(type='SSUL', backbone=backbone, decode_head=dict(
        type='IncrementalASPPHead', in_channels=channels, in_index=index, channels=8, dilations=(1, 2), norm_cfg=NORM,
        classes_per_task=classes_per_task)))


@pytest.mark.parametrize('name', BACKBONES)
def test_every_backbone_learns_a_base_task_and_then_only_the_new_classes(name):
    inputs, labels = torch.randn(2, 3, 64, 64), torch.randint(0, 4, (2, 64, 64), dtype=torch.uint8)
    base = build(name, [2])
    base.init_weights()
    sum(base.loss(inputs, samples_of(labels.clamp(max=2))).values()).backward()
    # A backbone that gives one of its maps away may hold parameters that only the others need.
    learning = [key for key, p in base.named_parameters() if p.grad is not None and p.grad.any()]
    assert any(key.startswith('backbone') for key in learning) and any('classifiers' in key for key in learning)
    model = build(name, [2, 1])
    model.start_task(base.state_dict())
    model.train()
    sum(model.loss(inputs, samples_of(labels)).values()).backward()
    assert {key.split('.')[2] for key, p in model.named_parameters() if p.grad is not None} == {
        'background', 'task_1', 'unknown'}
    predicted = model.eval().predict(inputs)[0].pred_sem_seg.data
    assert predicted.shape == (1, 64, 64) and predicted.dtype == torch.uint8


@pytest.mark.parametrize('change, key', [
    (lambda state: state.pop('backbone.conv1.weight'), 'backbone.conv1.weight'),
    (lambda state: state.update(extra=torch.zeros(1)), 'extra'),
    (lambda state: state.update({'decode_head.classifiers.task_0.0.bias': torch.zeros(4)}), 'task_0.0.bias'),
    (lambda state: state.update({'decode_head.classifiers.task_1.0.bias': torch.zeros(2)}), 'task_1.0.bias'),
])
def test_old_weights_must_fit_but_for_the_classifier_of_the_task(change, key):
    state = tiny_model([3]).state_dict()
    change(state)
    with pytest.raises(InputError, match=f'the weights of task 0 do not fit this network: .*{key}'):
        tiny_model([3, 2]).start_task(state)


def test_prediction_is_cut_from_the_padding_and_resized_to_the_original():
    model = tiny_model([3]).eval()
    features = torch.randn(1, 8, 4, 4)
    sample = SegDataSample(metainfo=dict(img_padding_size=(0, 4, 0, 8), ori_shape=(48, 56)))
    (result, ) = model.predict_by_feat(features, (32, 32), [sample])
    scores = F.interpolate(model.decode_head.classify(features), size=(32, 32), mode='bilinear')[:, :, :24, :28]
    scores = F.interpolate(scores, size=(48, 56), mode='bilinear')
    assert torch.equal(result.pred_sem_seg.data, model.decode_head.to_labels(scores.argmax(1)))


def test_the_ground_truth_decides_the_size():
    model = tiny_model([3]).eval()
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 10, 6, dtype=torch.uint8)),
                           metainfo=dict(ori_shape=(48, 56)))
    assert model.predict(torch.randn(1, 3, 32, 32), [sample])[0].pred_sem_seg.data.shape == (1, 10, 6)


def test_an_option_of_merging_must_be_known():
    with pytest.raises(InputError, match=r"model\.merge_unknown is 'max'; choose one of labels, scores"):
        tiny_model([3], merge_unknown='max')


def test_convolutions_that_channels_last_would_break_run_contiguous():
    # A strided 1x1 convolution of fewer than eight channels.
    assert tiny_model([3]).memory_format == torch.contiguous_format
    wide = build('MobileNetV2', [3])
    assert wide.memory_format == torch.channels_last
    assert wide.backbone.conv1.conv.weight.is_contiguous(memory_format=torch.channels_last)
