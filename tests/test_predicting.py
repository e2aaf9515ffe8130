"""Whole and sliding windows, padding and flips: predictions are mmseg's."""
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tiny import RESNET, network_run, tiny_model

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.models.predicting import check_test_cfg
from ssul_mmseg.models.segmentors import IncrementalSegmentor
from ssul_mmseg.scenario import UNKNOWN

HEAD = dict(in_channels=32, in_index=3, channels=8, num_convs=1, norm_cfg=dict(type='BN'))
SLIDE = dict(mode='slide', crop_size=(24, 20), stride=(16, 12))
IMAGES = torch.randn(2, 3, 48, 40, generator=torch.Generator().manual_seed(0))


def two_models(test_cfg):
    """SSUL after two tasks, and mmseg's plain segmentor with the very weights, in evaluation mode."""
    torch.manual_seed(0)
    ours = MODELS.build(dict(type='SSUL', backbone=RESNET, test_cfg=dict(test_cfg, seg_logits=True), decode_head=dict(
        type='IncrementalFCNHead', classes_per_task=[3, 2], **HEAD)))
    head = ours.decode_head
    for classifier in head.classifiers.values():
        torch.nn.init.normal_(classifier[-1].weight, std=3)
    # Scores around 0 in every channel, so that many of them win somewhere.
    ours.eval()
    for name in head.names:
        mean = head.classify(ours.trunk(IMAGES), [name]).mean((0, 2, 3))
        head.classifiers[name][-1].bias.data -= mean.detach()
    plain = MODELS.build(dict(type='EncoderDecoder', backbone=RESNET, test_cfg=check_test_cfg(test_cfg),
                              decode_head=dict(type='FCNHead', num_classes=7, **HEAD)))
    state = {key: value for key, value in ours.state_dict().items() if '.classifiers.' not in key}
    for kind in ('weight', 'bias'):
        state[f'decode_head.conv_seg.{kind}'] = torch.cat(
            [getattr(head.classifiers[name][-1], kind) for name in head.names])
    plain.load_state_dict(state)
    return ours.eval(), plain.eval()


@pytest.mark.parametrize('flip', [None, 'horizontal', 'vertical'])
@pytest.mark.parametrize('test_cfg', [dict(mode='whole'), SLIDE], ids=['whole', 'slide'])
@torch.no_grad()
def test_predictions_are_those_of_mmsegs_segmentor(test_cfg, flip):
    ours, plain = two_models(test_cfg)
    meta = dict(ori_shape=(60, 52), img_shape=(44, 38), pad_shape=(48, 40), padding_size=[0, 2, 1, 3], flip=bool(flip),
                flip_direction=flip)
    found = ours.predict(IMAGES, [SegDataSample(metainfo=dict(meta)) for _ in IMAGES])
    # Its sliding windows write over img_shape, and it takes the size of what it slides over from nowhere else.
    expected = plain.predict(IMAGES, [SegDataSample(metainfo=dict(meta)) for _ in IMAGES])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.seg_logits.data, other.seg_logits.data)
        assert one.seg_logits.data.shape == (7, 60, 52)
        labels = other.pred_sem_seg.data
        assert torch.equal(one.pred_sem_seg.data, labels.masked_fill(labels == 6, UNKNOWN).byte())
        assert len(labels.unique()) > 3 and (labels == 6).any()


@pytest.mark.parametrize('flip', ['horizontal', 'vertical', 'diagonal'])
@torch.no_grad()
def test_labels_at_the_size_of_the_input_are_turned_back_too(flip):
    ours, _ = two_models({})
    plain, = ours.predict(IMAGES[:1])
    turned, = ours.predict(IMAGES[:1], [SegDataSample(metainfo=dict(flip=True, flip_direction=flip))])
    axes = {'horizontal': (2, ), 'vertical': (1, ), 'diagonal': (1, 2)}[flip]
    assert torch.equal(turned.pred_sem_seg.data, plain.pred_sem_seg.data.flip(axes))
    assert torch.equal(turned.seg_logits.data, plain.seg_logits.data.flip(axes))


@torch.no_grad()
def test_sliding_windows_need_no_sample():
    ours, plain = two_models(SLIDE)
    found, = ours.predict(IMAGES[:1])
    expected, = plain.predict(IMAGES[:1])
    torch.testing.assert_close(found.seg_logits.data, expected.seg_logits.data)


@torch.no_grad()
def test_logits_are_there_when_they_are_asked_for():
    ours, _ = two_models({})
    ours.test_cfg = check_test_cfg(None)
    sample, = ours.predict(IMAGES[:1], [SegDataSample(gt_sem_seg=PixelData(
        data=torch.zeros(1, 48, 40, dtype=torch.uint8)))])
    assert 'seg_logits' not in sample and 'pred_sem_seg' in sample


@pytest.mark.parametrize('test_cfg, words', [
    (dict(mode='sliding'), r"mode is 'sliding'; choose one of whole, slide"),
    (dict(mode='slide', stride=(8, 8)), r'crop_size is None; .* \(height, width\)'),
    (dict(SLIDE, stride=8), 'stride is 8;'), (dict(SLIDE, stride=(0, 8)), r'stride is \(0, 8\);'),
    (dict(SLIDE, stride=(8, 21)), r'stride is \(8, 21\), which leaves pixels out between windows of \(24, 20\)'),
    (dict(logits=True), "has no 'logits'; its keys are mode, crop_size, stride, seg_logits"),
])
def test_other_ways_to_test_are_refused(test_cfg, words):
    with pytest.raises(InputError, match=f'model.test_cfg.*{words}'):
        check_test_cfg(test_cfg)


def test_a_run_slides_over_its_test_images_and_keeps_no_features(tmp_path, monkeypatch):
    seen = []
    slide = IncrementalSegmentor.slide_inference

    def slide_inference(self, inputs, metas):
        seen.append((self.task, *inputs.shape))
        return slide(self, inputs, metas)
    monkeypatch.setattr(IncrementalSegmentor, 'slide_inference', slide_inference)
    network = dict(backbone=RESNET, decode_head=dict(type='IncrementalFCNHead', **HEAD))
    cfg = network_run(tmp_path, network, **{
        'feature_cache.views': 1, 'test_size': None,
        'model.test_cfg': dict(mode='slide', crop_size=(16, 16), stride=(8, 16))})
    assert len(run_scenario(cfg)['tasks']) == 2
    # 40 test images in batches of 8, in both tasks: none comes from a cache.
    assert seen == [(task, 8, 3, 24, 32) for task in (0, 1) for _ in range(5)]


@pytest.mark.parametrize('merge_unknown', ['labels', 'scores'])
@pytest.mark.parametrize('unknown', [True, False])
@pytest.mark.parametrize('padded, original', [('img_padding_size', (48, 56)), ('padding_size', (48, 56)),
                                              ('padding_size', None), (None, (48, 56)), (None, None)])
def test_prediction_is_cut_from_the_padding_and_has_the_original_size(merge_unknown, unknown, padded, original):
    model = tiny_model([3], head=dict(unknown=unknown), merge_unknown=merge_unknown,
                       weight_transfer='background').eval()
    features = torch.randn(1, 8, 4, 4)
    sample = SegDataSample()
    scores = F.interpolate(model.decode_head.classify(features), size=(40, 32), mode='bilinear')
    if padded:  # left, right, top, bottom
        sample.set_metainfo({padded: (1, 4, 2, 8)})
        scores = scores[:, :, 2:32, 1:28]
    if original:
        sample.set_metainfo(dict(ori_shape=original))
        scores = F.interpolate(scores, size=original, mode='bilinear')
    if merge_unknown == 'scores' and unknown:
        *scores, last = scores.sigmoid().unbind(1)
        scores = torch.stack([scores[0] + last, *scores[1:]], dim=1)
    expected = scores.argmax(1)
    (result, ) = model.predict_by_feat(features, (40, 32), [sample])
    assert torch.equal(result.pred_sem_seg.data, expected.masked_fill(expected == 4, UNKNOWN).byte())


def test_the_ground_truth_decides_the_size():
    model = tiny_model([3]).eval()
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 10, 6, dtype=torch.uint8)),
                           metainfo=dict(ori_shape=(48, 56)))
    assert model.predict(torch.randn(1, 3, 32, 32), [sample])[0].pred_sem_seg.data.shape == (1, 10, 6)


def test_scores_of_low_precision_are_resized_in_full():
    model, features = tiny_model([3]).eval(), torch.randn(1, 8, 4, 4)
    with torch.autocast('cpu', torch.bfloat16):
        (result, ) = model.predict_by_feat(features, (64, 64), [SegDataSample()])
        logits = model.decode_head.classify(features)
    scores = F.interpolate(logits.float(), size=(64, 64), mode='bilinear')
    assert logits.dtype == torch.bfloat16
    assert torch.equal(result.pred_sem_seg.data, model.decode_head.to_labels(scores.argmax(1)))
