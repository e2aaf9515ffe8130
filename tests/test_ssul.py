"""The fast form of SSUL against the paper's plain form: two networks, all channels, one-hot targets."""
import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from tiny import samples_of, started, tiny_config, tiny_model, voc_tree

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.models.losses import IGNORED
from ssul_mmseg.models.segmentors import Batch
from ssul_mmseg.scenario import IGNORE, UNKNOWN
from ssul_mmseg.work_dir.weights import load_state


def plain_targets(old_logits, labels, num_old, tau):
    """Eq. 1, row by row and pixel by pixel."""
    scores = F.interpolate(old_logits, size=labels.shape[1:], mode='bilinear', align_corners=False)
    target = labels.clone()
    for b, y, x in torch.cartesian_prod(*map(torch.arange, labels.shape)).tolist():
        best = scores[b, :, y, x].argmax().item()
        confidence = scores[b, 1:num_old + 1, y, x].sigmoid().max().item()
        if labels[b, y, x] in (0, UNKNOWN) and 1 <= best <= num_old and confidence > tau:
            target[b, y, x] = best
    return target


def plain_loss(model, old, inputs, labels, tau=0.7):
    """Two networks, all channels, one-hot BCE; returns the loss of each channel and the targets as labels."""
    head = model.decode_head
    num_old = old.decode_head.num_seen
    with torch.no_grad():
        old_logits = old.decode_head(old.extract_feat(inputs))
    target = plain_targets(old_logits, labels, num_old, tau)
    logits = F.interpolate(head(model.extract_feat(inputs)), labels.shape[1:], mode='bilinear', align_corners=False)
    one_hot = torch.zeros_like(logits)
    for channel in range(logits.shape[1]):
        one_hot[:, channel] = target == (UNKNOWN if channel == head.num_seen + 1 else channel)
    bce = F.binary_cross_entropy_with_logits(logits, one_hot, reduction='none')
    valid = target != IGNORE
    return (bce * valid.unsqueeze(1)).sum((0, 2, 3)) / valid.sum(), target


def batch(num_old, num_new, seed=0, old_shown=()):
    torch.manual_seed(seed)
    inputs = torch.randn(2, 3, 40, 40)
    choices = torch.tensor([0, 0, UNKNOWN, IGNORE, *old_shown, *range(num_old + 1, num_old + num_new + 1)])
    labels = choices[torch.randint(len(choices), (2, 10, 10))].repeat_interleave(4, 1).repeat_interleave(4, 2)
    return inputs, labels


@pytest.mark.parametrize('num_old', [1, 5, 150])
@pytest.mark.parametrize('survivors', ['none', 'some', 'all'])
@pytest.mark.parametrize('memory', [False, True])
def test_one_pass_equals_two_networks(num_old, survivors, memory):
    """With memory, exemplars show ground truth of old classes."""
    old = tiny_model([num_old]).eval()
    bias = old.decode_head.classifiers['task_0'][-1].bias
    bias.data += {'none': -1e3, 'some': 0., 'all': 1e3}[survivors]
    model = started(tiny_model([num_old, 2]), old)
    with torch.no_grad():  # as after some training: background and unknown are no longer the old ones
        for name in ('background', 'unknown', 'task_1'):
            model.decode_head.classifiers[name][-1].weight.add_(torch.randn(1) * .3)
    inputs, labels = batch(num_old, 2, old_shown={1, num_old} if memory else ())
    expected, expected_target = plain_loss(model.eval(), old, inputs, labels)
    learning = [p for p in model.parameters() if p.requires_grad]
    expected_gradient = torch.autograd.grad(expected.sum(), learning)

    model.train()
    target = model.targets(model.batch_of(inputs, labels))
    as_labels = target.masked_fill(target == IGNORED, IGNORE).masked_fill(target == num_old + 3, UNKNOWN)
    assert torch.equal(as_labels, expected_target)
    loss = model.loss(inputs, samples_of(labels))['loss_bce']
    gradient = torch.autograd.grad(loss, learning)
    for ours, plain in zip(gradient, expected_gradient, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    # The frozen channels' share of the loss, on which no gradient depends, is left out.
    torch.testing.assert_close(loss, expected[[0, num_old + 1, num_old + 2, num_old + 3]].sum(), rtol=1e-5, atol=1e-5)


def test_the_base_task_is_plain_bce():
    model = tiny_model([3]).train()
    inputs, labels = batch(0, 3)
    state = copy.deepcopy(model.state_dict())
    loss = model.loss(inputs, samples_of(labels))['loss_bce']
    model.load_state_dict(state)
    head = model.decode_head
    logits = F.interpolate(head(model.extract_feat(inputs)), (40, 40), mode='bilinear', align_corners=False)
    valid = labels != IGNORE
    expected = 0
    for channel, label in enumerate([0, 1, 2, 3, UNKNOWN]):
        bce = F.binary_cross_entropy_with_logits(logits[:, channel], (labels == label).float(), reduction='none')
        expected = expected + bce[valid].sum() / valid.sum()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


def test_rows_of_equation_1_by_hand():
    """One pixel per row: new class, confident old class, unsure old class, salient, background, ignored."""
    model = started(tiny_model([2, 1]), tiny_model([2]))
    scores = torch.full((1, 4, 1, 6), -5.)  # background, class 1, class 2, unknown
    scores[0, 1, 0, 0] = 9.  # a new class is labelled: the old model is not asked
    scores[0, 2, 0, 1] = 2.  # sigmoid 0.88 > tau, although salient
    scores[0, 2, 0, 2] = .5  # sigmoid 0.62 <= tau
    scores[0, 3, 0, 3] = 3.  # the old model says unknown
    scores[0, 0, 0, 4], scores[0, 1, 0, 4] = 3., 2.  # the old model says background, class 1 is confident too
    scores[0, 1, 0, 5] = 9.  # ignored stays ignored
    model.old_model.logits = lambda batch: scores
    labels = torch.tensor([[[3, UNKNOWN, UNKNOWN, UNKNOWN, 0, IGNORE]]])
    assert model.targets(Batch(labels, torch.zeros(0))).tolist() == [[[3, 2, 4, 4, 0, IGNORED]]]


def test_frozen_parts_stay_put_and_in_evaluation_mode():
    old = tiny_model([3])
    model = started(tiny_model([3, 1]), old)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=.5, weight_decay=.1)
    for step in range(3):
        inputs, labels = batch(3, 1, seed=step)
        optimizer.zero_grad()
        model.train().loss(inputs, samples_of(labels))['loss_bce'].backward()
        optimizer.step()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    prefix = 'decode_head.classifiers.'
    assert moved == {f'{prefix}{name}.0.{kind}' for name in ('background', 'unknown', 'task_1')
                     for kind in ('weight', 'bias')}
    assert not any(module.training for part in model.frozen_modules() for module in part.modules())


def test_six_updates_of_conv_classifiers_equal_plain_sgd_with_every_batch_norm_still():
    """The authors' ``--bn_freeze``: from task 1 on BatchNorm applies what it has learned, and learns nothing."""
    head = dict(classifier='conv')
    old = tiny_model([3], head=head)
    for module in old.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after a learned task
            module.running_mean.normal_()
            module.running_var.uniform_(.5, 2)
    model = started(tiny_model([3, 1], head=head), old)
    plain = copy.deepcopy(model).eval()  # no BatchNorm of it uses the batch
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    # Of each of three classifiers a 3x3 convolution and 1x1 filters with their bias.
    assert len(learning) == 9 and not any('.bn.' in name for name in learning)
    optimizers = []
    for network in (model, plain):
        parameters = dict(network.named_parameters())
        optimizers.append(torch.optim.SGD([parameters[name] for name in learning], lr=.1, momentum=.9))
    before = copy.deepcopy(model.state_dict())
    for step in range(6):
        inputs, labels = batch(3, 1, seed=step)
        features = model.trunk(inputs)
        target = model.targets(model.batch_of(inputs, labels))
        losses = [model.train().loss(inputs, samples_of(labels))['loss_bce']]
        names = model.learning_classifiers()
        channels = model.decode_head.channels_of(names)
        logits = torch.cat([plain.decode_head.classifiers[name](features) for name in names], dim=1)
        logits = F.interpolate(logits, (40, 40), mode='bilinear')
        one_hot = (target.unsqueeze(1) == torch.tensor(channels).view(1, -1, 1, 1)).float()
        bce = F.binary_cross_entropy_with_logits(logits, one_hot, reduction='none').sum(1)
        losses.append(bce[target != IGNORED].sum() / (target != IGNORED).sum())
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    state = plain.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=1e-5, atol=1e-5)
        assert torch.equal(value, before[name]) == (name not in learning), name


def test_nothing_is_stored_for_a_backward_pass_of_the_trunk():
    model = started(tiny_model([3, 1]), tiny_model([3]))
    assert not model.trunk(torch.randn(1, 3, 32, 32)).requires_grad
    assert tiny_model([3]).trunk(torch.randn(2, 3, 32, 32)).requires_grad


@pytest.mark.parametrize('classifier', ['linear', 'conv'])
@pytest.mark.parametrize('source', ['unknown', 'background', 'random'])
def test_weight_transfer(source, classifier):
    head = dict(classifier=classifier)
    old = tiny_model([3], head=head)
    model = started(tiny_model([3, 2], head=head, weight_transfer=source), old)
    check_transfer(old.decode_head.classifiers.state_dict(), model.decode_head.classifiers.state_dict(), source)


def check_transfer(old, new, source):
    """Task 1's classifier starts as ``source`` says: as copies of an old one's filter, or as small random filters."""
    new = {key.removeprefix('task_1.'): value for key, value in new.items() if key.startswith('task_1.')}
    assert new
    if source == 'random':
        last = max(key for key in new if key.endswith('.weight'))
        assert 0 < new[last].std() < .03 and not new[last.replace('weight', 'bias')].any()
        return
    for key, value in new.items():
        assert torch.equal(value, old[f'{source}.{key}'].expand_as(value)), key


@HOOKS.register_module()
class KeepStart(Hook):
    """Keeps the classifiers as the first iteration of a task finds them."""

    kept = None

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 0:
            state = runner.model.decode_head.classifiers.state_dict()
            KeepStart.kept = {key: value.clone().cpu() for key, value in state.items()}


@pytest.mark.parametrize('source, classifier, cache', [
    ('unknown', 'linear', None), ('unknown', 'linear', dict(views=2)), ('unknown', 'conv', None),
    ('background', 'linear', None), ('random', 'linear', None)], ids=str)
def test_weight_transfer_reaches_the_first_iteration_of_a_run(tmp_path, source, classifier, cache):
    cfg = tiny_config(voc_tree(tmp_path / 'voc', 24), tmp_path / 'work', feature_cache=cache, **{
        'scenario.name': '18-2', 'train_cfg.max_epochs': 1, 'model.weight_transfer': source,
        'model.decode_head.classifier': classifier})
    cfg.custom_hooks = [dict(type='KeepStart')]
    run_scenario(cfg)
    old = load_state(tmp_path / 'work/task_0/weights.pth')['state_dict']
    prefix = 'decode_head.classifiers.'
    check_transfer({key.removeprefix(prefix): value for key, value in old.items()}, KeepStart.kept, source)


def test_softmax_needs_all_channels():
    head = dict(loss_decode=dict(type='SoftmaxCELoss'))
    model = started(tiny_model([3, 1], head=head), tiny_model([3], head=head))
    assert model.learning_classifiers() == ['background', 'task_0', 'task_1', 'unknown']
    inputs, labels = batch(3, 1)
    target = model.targets(model.batch_of(inputs, labels))
    logits = F.interpolate(model.decode_head(model.extract_feat(inputs)), (40, 40), mode='bilinear')
    torch.testing.assert_close(model.loss(inputs, samples_of(labels))['loss_ce'],
                               F.cross_entropy(logits, target, ignore_index=IGNORED))


def test_a_model_trained_by_softmax_is_confident_by_softmax():
    """Its pseudo-labels are those of softmax over all channels, not sigmoid's."""
    head = dict(loss_decode=dict(type='SoftmaxCELoss'))
    old = tiny_model([3], head=head).eval()
    old.decode_head.classifiers['task_0'][-1].bias.data[1] += 1  # so that its share is above tau in some pixels
    model = started(tiny_model([3, 1], head=head), old)
    inputs, labels = batch(3, 1)
    target = model.targets(model.batch_of(inputs, labels))
    with torch.no_grad():
        scores = F.interpolate(old.decode_head(old.extract_feat(inputs)), (40, 40), mode='bilinear')
    confidence, best = scores.softmax(1).max(1)
    free = (labels == 0) | (labels == UNKNOWN)
    old_class = free & (best > 0) & (best < 4)
    pseudo = old_class & (confidence > .7)
    assert pseudo.any() and (old_class & ~pseudo & (scores.amax(1).sigmoid() > .7)).any()
    assert torch.equal(target[pseudo], best[pseudo]) and ((target[free & ~pseudo] % 5) == 0).all()


def test_a_class_that_ties_with_background_is_background():
    old = tiny_model([1])
    with torch.no_grad():
        for name, score in (('background', 2), ('task_0', 2), ('unknown', 1)):
            torch.nn.init.zeros_(old.decode_head.classifiers[name][-1].weight)
            torch.nn.init.constant_(old.decode_head.classifiers[name][-1].bias, score)
    model = started(tiny_model([1, 1]), old)
    inputs, labels = batch(1, 1)
    images = model.batch_of(inputs, labels)
    logits = model.old_model.logits(images)
    assert (logits[:, :2] == 2).all()  # sigmoid 0.88 > tau
    assert torch.equal(model.targets(images), model.decode_head.to_channels(labels))


def test_without_an_unknown_channel_unknown_is_background():
    head = dict(unknown=False)
    model = started(*(tiny_model(classes, head=head, weight_transfer='random') for classes in ([3, 1], [3])))
    assert model.decode_head.names == ['background', 'task_0', 'task_1']
    assert model.decode_head.to_channels(torch.tensor([[[UNKNOWN, 4]]])).tolist() == [[[0, 4]]]
    inputs, labels = batch(3, 1)
    assert torch.isfinite(model.loss(inputs, samples_of(labels))['loss_bce'])
    with pytest.raises(InputError, match='weight_transfer'):
        tiny_model([3], head=head)


@pytest.mark.parametrize('options', [
    dict(tau=1.), dict(tau=0), dict(tau='high'), dict(weight_transfer='zero'), dict(merge_unknown='no'),
    dict(head=dict(classifier='mlp'))], ids=str)
def test_wrong_options_are_refused(options):
    with pytest.raises(InputError):
        tiny_model([3], **options)


def test_weights_of_another_shape_are_refused():
    with pytest.raises(InputError, match='do not fit'):
        started(tiny_model([3, 1]), tiny_model([2]))
    with pytest.raises(InputError, match='do not fit'):
        started(tiny_model([3, 1]), tiny_model([3], head=dict(unknown=False), weight_transfer='random'))


@pytest.mark.parametrize('merge_unknown', ['labels', 'scores'])
@pytest.mark.parametrize('loss', ['SigmoidBCELoss', 'SoftmaxCELoss'])
def test_prediction_is_the_argmax_of_upsampled_scores(merge_unknown, loss):
    model = tiny_model([5], head=dict(loss_decode=dict(type=loss)), merge_unknown=merge_unknown).eval()
    inputs = torch.randn(3, 3, 50, 38)
    with torch.no_grad():
        found = torch.cat([sample.pred_sem_seg.data for sample in model.predict(inputs)])
        scores = F.interpolate(model.decode_head(model.extract_feat(inputs)), (50, 38), mode='bilinear')
    if merge_unknown == 'scores':
        scores = scores.sigmoid() if loss == 'SigmoidBCELoss' else scores.softmax(1)
        scores[:, 0] += scores[:, -1]
        scores = scores[:, :-1]
    expected = scores.argmax(1)
    expected[expected == 6] = UNKNOWN
    assert (found == expected).float().mean() > .999 and found.dtype == torch.uint8


def test_prediction_has_the_size_of_the_ground_truth():
    model = tiny_model([2]).eval()
    samples = samples_of(torch.zeros(1, 61, 45))
    samples[0].set_metainfo(dict(img_padding_size=(0, 8, 0, 2)))
    with torch.no_grad():
        (sample, ) = model.predict(torch.randn(1, 3, 40, 40), samples)
    assert sample.pred_sem_seg.shape == (61, 45)
