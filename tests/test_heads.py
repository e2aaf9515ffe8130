"""Channels, classifiers and loss of the head."""
import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from mmseg.registry import MODELS
from tiny import tiny_model
from torch import nn

from ssul_mmseg.errors import InputError
from ssul_mmseg.models.losses import IGNORED, NO_POSITIVE
from ssul_mmseg.scenario import IGNORE, UNKNOWN


def head(classes_per_task=(3, 2), **options):
    return tiny_model(list(classes_per_task), head=options).decode_head


def bare(**options):
    """A head without a network below it, as its constructor makes it."""
    return MODELS.build(dict(type='IncrementalASPPHead', **{
        **dict(classes_per_task=[2, 1], in_channels=4, channels=4, norm_cfg=dict(type='BN')), **options}))


HEAD = head()


def test_a_class_keeps_its_channel_and_unknown_is_last():
    model = head((3, 2, 1))
    assert model.names == ['background', 'task_0', 'task_1', 'task_2', 'unknown'] and model.task == 2
    assert model.channels_of(['task_1', 'background']) == [0, 4, 5]
    assert model.channels_of(['unknown']) == [7] and model.out_channels == 8
    model = bare(classes_per_task=[3, 2], unknown=False, loss_decode=dict(type='SoftmaxCELoss'))
    assert model.names == ['background', 'task_0', 'task_1'] and model.out_channels == 6
    assert model.loss_decode.loss_name == 'loss_ce'


@pytest.mark.parametrize('kind', ['linear', 'conv'])
def test_logits_are_those_of_each_classifier_in_turn(kind):
    model = head(classifier=kind).eval()
    features = torch.randn(2, 8, 5, 4)
    plain = torch.cat([model.classifiers[name](features) for name in model.names], dim=1)
    torch.testing.assert_close(model.classify(features), plain)
    torch.testing.assert_close(model.classify(features, ['unknown', 'task_1']), plain[:, [4, 5, 6]])


def test_a_classifier_is_a_filter_per_class_or_a_convolution_before_it():
    features = torch.randn(2, 8, 5, 4)
    last = HEAD.classifiers['task_0'][-1]
    plain = torch.einsum('kc,bchw->bkhw', last.weight[:, :, 0, 0], features) + last.bias.view(-1, 1, 1)
    torch.testing.assert_close(HEAD.classifiers['task_0'](features), plain)
    own, last = head(classifier='conv').train().classifiers['task_0']
    plain = F.conv2d(features, own.conv.weight, padding=1)
    plain = F.relu((plain - plain.mean((0, 2, 3), True)) / (plain.var((0, 2, 3), False, keepdim=True) + 1e-5).sqrt())
    torch.testing.assert_close(last(own(features)), last(plain))


@pytest.mark.parametrize('classifier', ['linear', 'conv'])
def test_a_head_starts_with_small_filters_and_nothing_that_never_learns(classifier):
    torch.manual_seed(0)
    model = bare(classes_per_task=[50], channels=64, classifier=classifier)
    model.init_weights()
    if classifier == 'conv':
        assert (model.classifiers['task_0'][0].bn.weight == 1).all()
        assert model.classifiers['task_0'][0].conv.weight.std() > .02
    assert not any('conv_seg' in name for name, _ in model.named_parameters())
    last = model.classifiers['task_0'][-1]
    assert .009 < last.weight.std() < .011 and not last.bias.any()
    assert model.bottleneck.conv.weight.std() > .02 and isinstance(model.bottleneck.bn, nn.BatchNorm2d)


@settings(max_examples=30)
@given(st.lists(st.sampled_from([0, 1, 4, 5, UNKNOWN, IGNORE]), min_size=1, max_size=20))
def test_labels_and_channels_are_each_others_inverse(labels):
    labels = torch.tensor(labels, dtype=torch.uint8).view(1, 1, -1)
    channels = HEAD.to_channels(labels)
    named = {UNKNOWN: 6, IGNORE: IGNORED}
    assert channels.flatten().tolist() == [named.get(label, label) for label in labels.flatten().tolist()]
    assert torch.equal(HEAD.to_labels(channels), labels) and HEAD.to_labels(channels).dtype == torch.uint8


@pytest.mark.parametrize('unknown', [True, False])
def test_labels_of_no_seen_class_count_nowhere(unknown):
    channels = bare(classes_per_task=[2, 1], unknown=unknown).to_channels(torch.arange(256).view(1, 16, 16))
    assert channels.flatten().tolist() == [0, 1, 2, 3, *[IGNORED] * 250, 4 if unknown else 0, IGNORED]


def test_more_classes_than_labels_hold_are_refused():
    model = head((253, 1))
    with pytest.raises(InputError, match='at most 253 classes, but this network has 254'):
        model.to_labels(torch.zeros(1, 1, 1, dtype=torch.long))
    assert bare(classes_per_task=[253]).to_labels(torch.tensor([[[253, 254]]])).tolist() == [[[253, UNKNOWN]]]


@pytest.mark.parametrize('align_corners', [False, True])
def test_loss_is_the_mean_over_valid_pixels_of_the_sum_over_learning_channels(align_corners):
    model = head(align_corners=align_corners)
    features = torch.randn(2, 8, 3, 3)
    target = torch.tensor([[[0, 4], [IGNORED, 6]], [[2, 5], [NO_POSITIVE, IGNORED]]])
    logits = F.interpolate(model.classify(features), size=(2, 2), mode='bilinear', align_corners=align_corners)
    one_hot = (target.unsqueeze(1) == torch.arange(7).view(1, 7, 1, 1)).float()
    every = F.binary_cross_entropy_with_logits(logits, one_hot, reduction='none')
    valid = (target != IGNORED).unsqueeze(1)
    for names, channels in ((model.names, range(7)), (['background', 'task_1', 'unknown'], [0, 4, 5, 6])):
        expected = (every[:, list(channels)] * valid).sum() / 6
        torch.testing.assert_close(model.pixel_loss(features, target, names)['loss_bce'], expected)


def test_features_are_dropped_in_training_only():
    model = bare(dropout_ratio=.5)
    features, target = torch.randn(2, 4, 3, 3), torch.zeros(2, 3, 3, dtype=torch.long)
    plain = bare(dropout_ratio=0)
    plain.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    loss = model.train().pixel_loss(features, target, model.names)['loss_bce']
    torch.manual_seed(1)
    assert loss == plain.pixel_loss(F.dropout2d(features, .5), target, plain.names)['loss_bce']
    assert model.eval().pixel_loss(features, target, model.names) == plain.pixel_loss(features, target, plain.names)


def test_the_loss_is_taken_in_full_precision():
    with torch.autocast('cpu', torch.bfloat16):
        loss = HEAD.pixel_loss(torch.randn(1, 8, 3, 3), torch.zeros(1, 6, 6, dtype=torch.long), HEAD.names)['loss_bce']
    assert loss.dtype == torch.float32


def test_a_batch_without_a_valid_pixel_has_no_loss_and_no_gradient():
    model = head()
    loss = model.pixel_loss(torch.randn(1, 8, 3, 3), torch.full((1, 4, 4), IGNORED), model.names)['loss_bce']
    loss.backward()
    assert loss == 0 and not model.classifiers['unknown'][-1].weight.grad.any()


@pytest.mark.parametrize('kind', ['linear', 'conv'])
@pytest.mark.parametrize('source', ['unknown', 'background', None])
def test_the_filters_of_the_task_alone_start_as_copies(kind, source):
    model = head(classifier=kind)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.transfer_weights(source)
    for key, value in model.state_dict().items():
        copied = source and key.startswith('classifiers.task_1.')
        expected = before[key.replace('task_1', source) if copied else key]
        assert value.shape == before[key].shape and torch.equal(value, expected.expand_as(value)), key


def test_classifiers_of_no_known_kind_or_place_are_refused():
    with pytest.raises(InputError, match=r"decode_head\.classifier is 'mlp'; choose one of linear, conv"):
        bare(classifier='mlp')
    with pytest.raises(InputError, match=r"'unknown': the head has no such classifier; .*weight_transfer"):
        bare(unknown=False).transfer_weights('unknown')


def test_the_projection_is_deeplabs_or_mmsegs():
    assert bare().bottleneck.conv.kernel_size == (1, 1)
    wide = bare(projection=3)
    assert wide.bottleneck.conv.kernel_size == (3, 3) and wide.bottleneck.conv.padding == (1, 1)
    maps = [torch.randn(2, 4, 5, 4)]
    for model in (bare().eval(), wide.eval()):
        branches = torch.cat([F.interpolate(model.image_pool(maps[0]), (5, 4)), *model.aspp_modules(maps[0])], dim=1)
        torch.testing.assert_close(model.features(maps), model.bottleneck(branches))
    with pytest.raises(InputError, match=r"decode_head\.projection is 2; choose 1, DeepLab-v3's, or 3"):
        bare(projection=2)
