"""Which images pass a frozen trunk together: groups of one size, each when the first of it is needed."""
from collections.abc import Container, Hashable, Sequence

from ..datasets.samplers import ReplayBatchSampler


def group_size(sampler: ReplayBatchSampler) -> int:
    """Images that pass the trunk at a time: what a batch brings anew in an epoch of which nothing is kept."""
    return min(sampler.local_size, sampler.new_per_batch)


def due_groups(batches: Sequence[Sequence[Hashable]], kept: Container[Hashable], size: int
               ) -> list[list[list[Hashable]]]:
    """Split the keys that an epoch lacks into groups, each due at the batch that needs the first of it.

    Args:
        batches: the keys of the epoch's batches, some of them in several.
        kept: the keys whose features are there.
        size: keys of a group; only the epoch's last may have fewer.

    Returns:
        The groups due at each batch, every key once and in the order of first use.
    """
    seen: set[Hashable] = set()
    due: list[list[list[Hashable]]] = []
    group: list[Hashable] = []
    for batch in batches:
        due.append([])
        for key in batch:
            if key in kept or key in seen:
                continue
            seen.add(key)
            if not group:
                due[-1].append(group)
            group.append(key)
            if len(group) == size:
                group = []
    return due
