"""Channels, classifiers and loss of the head."""
import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from mmseg.registry import MODELS
from tiny import tiny_model

from ssul_mmseg.errors import InputError
from ssul_mmseg.models.losses import IGNORED, NO_POSITIVE
from ssul_mmseg.tasks import IGNORE, UNKNOWN


def head(classes_per_task=(3, 2), **options):
    return tiny_model(list(classes_per_task), head=options).decode_head


def test_a_class_keeps_its_channel_and_unknown_is_last():
    model = head((3, 2, 1))
    assert model.names == ['background', 'task_0', 'task_1', 'task_2', 'unknown']
    assert model.channels_of(['task_1', 'background']) == [0, 4, 5]
    assert model.channels_of(['unknown']) == [7]
    assert head((3, 2), unknown=False).names == ['background', 'task_0', 'task_1']


@pytest.mark.parametrize('kind', ['linear', 'conv'])
def test_logits_are_those_of_each_classifier_in_turn(kind):
    model = head(classifier=kind).eval()
    features = torch.randn(2, 8, 5, 4)
    plain = torch.cat([model.classifiers[name](features) for name in model.names], dim=1)
    torch.testing.assert_close(model.classify(features), plain)
    torch.testing.assert_close(model.classify(features, ['unknown', 'task_1']), plain[:, [4, 5, 6]])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 4, 5, UNKNOWN, IGNORE]), min_size=1, max_size=20))
def test_labels_and_channels_are_each_others_inverse(labels):
    model = head()
    labels = torch.tensor(labels, dtype=torch.uint8).view(1, 1, -1)
    channels = model.to_channels(labels)
    named = {UNKNOWN: 6, IGNORE: IGNORED}
    assert channels.flatten().tolist() == [named.get(label, label) for label in labels.flatten().tolist()]
    assert torch.equal(model.to_labels(channels), labels)


def test_more_classes_than_labels_hold_are_refused():
    model = head((253, 1))
    with pytest.raises(InputError, match='at most 253 classes, but this network has 254'):
        model.to_labels(torch.zeros(1, 1, 1, dtype=torch.long))


def test_loss_is_the_mean_over_valid_pixels_of_the_sum_over_learning_channels():
    model = head()
    features = torch.randn(2, 8, 3, 3)
    target = torch.tensor([[[0, 4], [IGNORED, 6]], [[2, 5], [1, IGNORED]]])
    logits = F.interpolate(model.classify(features), size=(2, 2), mode='bilinear', align_corners=False)
    one_hot = F.one_hot(target.clamp(min=0), 7).permute(0, 3, 1, 2).float()
    every = F.binary_cross_entropy_with_logits(logits, one_hot, reduction='none')
    valid = (target != IGNORED).unsqueeze(1)
    for names, channels in ((model.names, range(7)), (['background', 'task_1', 'unknown'], [0, 4, 5, 6])):
        expected = (every[:, list(channels)] * valid).sum() / valid.sum()
        torch.testing.assert_close(model.loss(features, target, names)['loss_bce'], expected)


def test_a_batch_without_a_valid_pixel_has_no_loss_and_no_gradient():
    model = head()
    loss = model.loss(torch.randn(1, 8, 3, 3), torch.full((1, 4, 4), IGNORED), model.names)['loss_bce']
    loss.backward()
    assert loss == 0 and not model.classifiers['unknown'][-1].weight.grad.any()
    assert IGNORED != NO_POSITIVE


@pytest.mark.parametrize('options, words', [
    (dict(classifier='mlp'), r"decode_head\.classifier is 'mlp'; choose one of linear, conv"),
])
def test_wrong_options_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        head(**options)


def test_weights_cannot_come_from_a_classifier_that_is_not_there():
    model = MODELS.build(dict(type='IncrementalASPPHead', classes_per_task=[2, 1], in_channels=4, channels=4,
                              unknown=False))
    with pytest.raises(InputError, match=r"'unknown': the head has no such classifier; .*weight_transfer"):
        model.transfer_weights('unknown')
