"""Group the images that pass a frozen trunk together; each group passes just before the batch that needs it."""
from collections.abc import Container, Hashable, Sequence

from ..datasets.samplers import ReplayBatchSampler


def group_size(sampler: ReplayBatchSampler) -> int:
    """Images per forward pass of the trunk: as many new images as one batch needs when the cache is empty."""
    return min(sampler.local_size, sampler.new_per_batch)


def due_groups(batches: Sequence[Sequence[Hashable]], kept: Container[Hashable], size: int
               ) -> list[list[list[Hashable]]]:
    """Cut the uncached keys of an epoch into groups.

    Each is computed just before the first batch that uses one of its keys.

    Args:
        batches: the keys of the epoch's batches; a key may be in several.
        kept: the keys whose features are in the cache.
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
            # A group is due at the batch of its first key; later batches fill it up.
            if not group:
                due[-1].append(group)
            group.append(key)
            if len(group) == size:
                group = []
    return due
