"""The lower bound learns everything, also what it should not."""
import torch
import torch.nn.functional as F
from tiny import samples_of, started, tiny_model

from ssul_mmseg.scenario import IGNORE, Scenario

SOFTMAX = dict(unknown=False, loss_decode=dict(type='SoftmaxCELoss'))


def second_task():
    return started(tiny_model([3, 2], 'FineTuning', SOFTMAX), tiny_model([3], 'FineTuning', SOFTMAX))


def test_everything_learns_from_the_labels_alone():
    model = second_task()
    assert model.frozen_modules() == [] and model.learning_classifiers() == ['background', 'task_0', 'task_1']
    inputs = torch.randn(2, 3, 32, 32)
    labels = torch.randint(0, 6, (2, 32, 32), dtype=torch.uint8)
    labels[:, :4] = IGNORE
    losses = model.loss(inputs, samples_of(labels))
    sum(losses.values()).backward()
    assert all(p.requires_grad and p.grad.any() for p in model.parameters())
    logits = F.interpolate(model.decode_head.classify(model.trunk(inputs)), size=(32, 32), mode='bilinear')
    expected = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE)
    torch.testing.assert_close(losses['loss_ce'], expected)


def test_background_that_hides_old_classes_pushes_their_scores_down():
    model = second_task()
    inputs, labels = torch.randn(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.uint8)
    model.loss(inputs, samples_of(labels))['loss_ce'].backward()
    logits = F.interpolate(model.decode_head.classify(model.trunk(inputs)), size=(32, 32), mode='bilinear')
    pushed = model.decode_head.classifiers['task_0'][-1].bias.grad
    torch.testing.assert_close(pushed, logits.softmax(1)[:, 1:4].mean((0, 2, 3)))
    assert pushed.min() > 0


def test_batch_norm_statistics_move():
    model = second_task()
    before = model.backbone.bn1.running_mean.clone()
    model.trunk(torch.randn(2, 3, 32, 32))
    assert not model.trunk_frozen and not torch.equal(model.backbone.bn1.running_mean, before)


def test_joint_training_is_one_task_with_the_columns_of_its_scenario():
    scenario = Scenario('3-1', 5, joint=True)
    assert scenario.tasks == (range(1, 6), ) and scenario.classes_per_task(0) == (5, )
    assert scenario.base == range(1, 4) and scenario.new == range(4, 6)
    assert scenario.seen(0) == range(1, 6) and not scenario.old(0) and not scenario.future(0)
