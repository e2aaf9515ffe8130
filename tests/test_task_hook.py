from types import SimpleNamespace

import pytest
import torch
from tiny import started, tiny_model

from ssul_mmseg.datasets.samplers import ReplayBatchSampler
from ssul_mmseg.engine.task_hook import IncrementalTaskHook, frozen_digests
from ssul_mmseg.errors import InputError

SCENARIO = dict(name='2-1', num_classes=4)


def hook(task=1, **options):
    return IncrementalTaskHook(SCENARIO, task, 'nowhere', seed=0, **options)


def test_digests_see_every_frozen_tensor_and_nothing_else():
    model = started(tiny_model([2, 1]), tiny_model([2]))
    before = frozen_digests(model)
    model.decode_head.classifiers['task_1'][-1].weight.data.add_(1)
    model.decode_head.classifiers['unknown'][-1].weight.data.add_(1)
    assert frozen_digests(model) == before
    model.backbone.bn1.running_mean[0] += 1e-6
    assert sum(frozen_digests(model)[key] != before[key] for key in before) == 1
    model.decode_head.classifiers['task_0'][-1].bias.data[0] += 1e-6
    assert sum(frozen_digests(model)[key] != before[key] for key in before) == 2
    assert frozen_digests(tiny_model([2])) == {}


def test_randomness_is_a_function_of_seed_task_and_iteration():
    data = SimpleNamespace(num_new=9, num_exemplars=0)
    sampler = ReplayBatchSampler(SimpleNamespace(dataset=data, epoch=0), batch_size=3)
    model = tiny_model([2], head=dict(dropout_ratio=.5)).train()

    def draw(task, iteration, seed=0):
        torch.rand(3)
        runner = SimpleNamespace(
            iter=iteration, model=model, train_dataloader=SimpleNamespace(batch_sampler=sampler))
        IncrementalTaskHook(SCENARIO, task, 'nowhere', seed).before_train_iter(runner, 0)
        return torch.rand(1).item(), model.decode_head.dropout(torch.ones(3, 64, 1, 1))
    number, mask = draw(0, 5)
    assert draw(0, 5)[0] == number and torch.equal(draw(0, 5)[1], mask)
    for other in (draw(0, 6), draw(1, 5), draw(0, 5, seed=1)):
        assert other[0] != number and not torch.equal(other[1], mask)


def test_missing_old_weights_say_what_to_do(tmp_path):
    dataset = SimpleNamespace(metainfo=dict(classes=('background', 'a', 'b', 'c', 'd')))
    runner = SimpleNamespace(train_dataloader=SimpleNamespace(dataset=dataset), model=tiny_model([2, 1]))
    with pytest.raises(InputError, match='train that task first'):
        hook().before_run(runner)
