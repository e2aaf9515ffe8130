import functools
import operator
from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from ssul_mmseg.datasets import samplers
from ssul_mmseg.datasets.samplers import ReplayBatchSampler
from ssul_mmseg.errors import InputError


def batches(num_new, num_exemplars, batch_size, epoch=0, rank=0, world=1, views=None, **options):
    """The keys of an epoch that one of ``world`` processes takes; with views an image belongs to a process."""
    sampler = SimpleNamespace(dataset=SimpleNamespace(num_new=num_new, num_exemplars=num_exemplars), epoch=epoch)
    original, samplers.get_dist_info = samplers.get_dist_info, lambda: (rank, world)
    try:
        replay = ReplayBatchSampler(sampler, batch_size, **options)
        return list(replay.batches(epoch * len(replay), len(replay), views, by_image=views is not None))
    finally:
        samplers.get_dist_info = original


def test_an_epoch_without_memory_passes_once_over_the_task():
    epoch = batches(10, 0, 3)
    positions = [position for batch in epoch for position, _ in batch]
    assert [len(batch) for batch in epoch] == [3, 3, 3] and len(set(positions)) == 9


def test_half_of_every_batch_is_memory():
    epoch = batches(10, 4, 4)
    assert len(epoch) == 5
    for batch in epoch:
        assert sum(position >= 10 for position, _ in batch) == 2
    assert sorted(position for batch in epoch for position, _ in batch if position < 10) == list(range(10))
    replayed = [position for batch in epoch for position, _ in batch if position >= 10]
    assert sorted(replayed[:4]) == sorted(replayed[4:8]) == [10, 11, 12, 13]


def test_half_pass_is_the_authors_epoch():
    assert len(batches(40, 4, 8)) == 10
    assert len(batches(40, 4, 8, half_pass=True)) == 5


def test_views_change_with_every_visit_or_repeat():
    views = [{view for batch in batches(6, 0, 3, epoch) for _, view in batch} for epoch in range(5)]
    assert views == [{0}, {1}, {2}, {3}, {4}]
    views = [{view for batch in batches(6, 0, 3, epoch, views=2) for _, view in batch} for epoch in range(5)]
    assert views == [{0}, {1}, {0}, {1}, {0}]


def test_a_task_smaller_than_a_batch_repeats_its_images_in_other_views():
    (batch, ) = batches(1, 0, 4)
    assert batch == [(0, 0), (0, 1), (0, 2), (0, 3)]
    (batch, ) = batches(1, 0, 4, epoch=1)
    assert batch == [(0, 4), (0, 5), (0, 6), (0, 7)]


@settings(max_examples=100)
@given(st.integers(1, 30), st.integers(0, 9), st.sampled_from([2, 4, 8]), st.integers(0, 3), st.integers(0, 5))
def test_processes_share_the_batches_of_one(num_new, num_exemplars, total, epoch, seed):
    alone = batches(num_new, num_exemplars, total, epoch, seed=seed)
    for world in (2, 4):
        if total % world:
            continue
        shares = [batches(num_new, num_exemplars, total // world, epoch, rank, world, seed=seed)
                  for rank in range(world)]
        assert [functools.reduce(operator.iadd, parts, []) for parts in zip(*shares, strict=True)] == alone
    assert all(len(batch) == total for batch in alone)
    keys = [key for e in range(4) for batch in batches(num_new, num_exemplars, total, e, seed=seed) for key in batch]
    assert len(set(keys)) == len(keys)  # no augmentation is ever repeated


def test_with_views_every_process_keeps_to_its_images():
    alone = [sorted(batch) for epoch in range(3) for batch in batches(10, 4, 4, epoch, views=2)]
    shares = [[batch for epoch in range(3) for batch in batches(10, 4, 2, epoch, rank, 2, views=2)] for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == alone
    positions = [{position for batch in share for position, _ in batch} for share in shares]
    assert not positions[0] & positions[1] and len(positions[0]) == len(positions[1]) == 7


def test_a_batch_is_a_function_of_its_iteration():
    sampler = SimpleNamespace(dataset=SimpleNamespace(num_new=20, num_exemplars=5), epoch=2)
    replay = ReplayBatchSampler(sampler, 4)
    whole = list(replay.batches(0, 30))
    assert len(replay) == 10 and list(replay.batches(23, 7)) == whole[23:] and replay.batch(5) == whole[5]
    # As an iterable it is the epoch of its sampler, however often it is passed over.
    assert list(replay) == whole[20:] and list(replay) == whole[20:]


def test_a_batch_of_one_cannot_hold_memory():
    with pytest.raises(InputError, match='batch_size'):
        batches(5, 5, 1)
