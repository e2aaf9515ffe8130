from types import SimpleNamespace

import hypothesis.strategies as st
from hypothesis import given

from ssul_mmseg.datasets.samplers import ReplayBatchSampler
from ssul_mmseg.engine.groups import due_groups, group_size


def test_groups_by_hand():
    """Of eight keys two are kept; five of the others pass in groups of two, the last filled with what there is."""
    batches = [['a', 'b', 'c'], ['c', 'd'], [], ['e', 'a', 'f'], ['g', 'c']]
    assert due_groups(batches, {'b', 'd'}, 2) == [[['a', 'c']], [], [], [['e', 'f']], [['g']]]
    assert due_groups(batches, 'abcdefg', 2) == [[], [], [], [], []]


@given(st.lists(st.lists(st.integers(0, 30), max_size=8), max_size=12), st.sets(st.integers(0, 30)), st.integers(1, 9))
def test_every_missing_key_is_in_one_group_before_it_is_used_and_no_group_comes_early(batches, kept, size):
    due = due_groups(batches, kept, size)
    groups = [group for groups in due for group in groups]
    keys = [key for group in groups for key in group]
    used = [key for batch in batches for key in batch if key not in kept]
    assert keys == list(dict.fromkeys(used))
    assert all(len(group) == size for group in groups[:-1])
    there = set(kept)
    past = set(kept)
    for batch, now in zip(batches, due, strict=True):
        assert all(group[0] in batch for group in now)
        there.update(key for group in now for key in group)
        past.update(batch)
        assert there >= set(batch)
        # What waits for its first use is less than a group.
        assert len(there - past) < size


def test_a_group_is_what_a_batch_brings_anew():
    for exemplars, expected in ((0, 8), (3, 4)):
        data = SimpleNamespace(num_new=20, num_exemplars=exemplars)
        assert group_size(ReplayBatchSampler(SimpleNamespace(dataset=data, epoch=0), 8)) == expected
