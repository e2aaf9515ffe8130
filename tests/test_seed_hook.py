"""Nothing random in a task depends on what came before it."""
from types import SimpleNamespace

import torch
from tiny import tiny_model

from ssul_mmseg.datasets.samplers import ReplayBatchSampler
from ssul_mmseg.engine.seed_hook import SeedHook


def test_randomness_is_a_function_of_seed_task_and_iteration():
    data = SimpleNamespace(num_new=9, num_exemplars=0)
    sampler = ReplayBatchSampler(SimpleNamespace(dataset=data, epoch=0), batch_size=3)
    model = tiny_model([2], head=dict(dropout_ratio=.5)).train()
    loop = SimpleNamespace(places=lambda iteration: (sampler.own_places(sampler.batch(iteration)), 3))

    def draw(task, iteration, seed=0):
        torch.rand(3)
        runner = SimpleNamespace(
            iter=iteration, model=model, task=task, train_loop=loop, scenario_run=SimpleNamespace(seed=seed))
        SeedHook().before_train_iter(runner, 0)
        return torch.rand(1).item(), model.decode_head.dropout(torch.ones(3, 64, 1, 1))
    number, mask = draw(0, 5)
    assert draw(0, 5)[0] == number and torch.equal(draw(0, 5)[1], mask)
    for other in (draw(0, 6), draw(1, 5), draw(0, 5, seed=1)):
        assert other[0] != number and not torch.equal(other[1], mask)
