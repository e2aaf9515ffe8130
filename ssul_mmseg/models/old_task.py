"""What a task takes over from the one before, and whether it fits."""
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..errors import InputError


@dataclass(frozen=True)
class OldTask:
    """What a task takes over from the one before.

    Args:
        weights: state dict of its network.
        state: its method's own state, what ``finish_task`` returned.
    """

    weights: Mapping[str, Tensor]
    state: Mapping[str, Tensor] = field(default_factory=dict)


def check_weights(old: Mapping[str, Tensor], own: Mapping[str, Tensor], expected: Collection[str], task: int) -> None:
    """Check that old weights fit a network.

    Args:
        old: state dict of the old network.
        own: state dict of the new one.
        expected: those keys of the new one that the old one has too.
        task: index of the old task.

    Raises:
        InputError: a weight is missing, unknown or of another shape or type.
    """
    wrong = sorted(set(expected).symmetric_difference(old))
    wrong = wrong or [key for key in sorted(expected) if _form(own[key]) != _form(old[key])]
    if wrong:
        raise InputError(f'the weights of task {task} do not fit this network: {wrong[0]} is missing, unknown or of '
                         f'another shape or type ({len(wrong)} such in all); take the config and the --cfg-options '
                         f'that task {task} was learned or adopted with')


def _form(tensor: Tensor) -> tuple:
    """What two tensors must share for one to take the other's values."""
    return tensor.shape, tensor.dtype, tensor.layout
