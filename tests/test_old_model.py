"""The network of the task before: two filters, a second network, or one that shares its frozen backbone."""
import torch
from tiny import samples_of, started, tiny_model


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
