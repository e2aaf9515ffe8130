"""What a network has forgotten since it learned a class."""
from collections.abc import Collection, Mapping, Sequence
from itertools import chain

from .metrics import mean


def forgetting(now: Mapping[str, float | None], learned: Sequence[Mapping[str, float | None]],
               absent: Collection[str] = ()) -> dict:
    r"""Points of IoU lost since a class was learned, :math:`\mathrm{mean}_c (IoU_c^{learned} - IoU_c^{now})`.

    Args:
        now: IoU by class name, in percent; None where there is none.
        learned: for each earlier task, the IoU of its own classes when it was learned.
        absent: classes that no test pixel is labelled as; they cannot be forgotten and count in no mean.

    Returns:
        ``forgetting``, the mean over all old classes in percentage points (negative is a gain), and
        ``forgetting_per_task``, the mean over each earlier task's classes; None where nothing is known.
    """
    lost: list[list[float | None]] = []
    for classes in learned:
        known = {name: was for name, was in classes.items() if name not in absent}
        lost.append([_difference(was, now.get(name)) for name, was in known.items()])
    return {
        'forgetting': mean(chain.from_iterable(lost)),
        'forgetting_per_task': [mean(values) for values in lost],
    }


def _difference(was: float | None, now: float | None) -> float | None:
    """How far an IoU has fallen, or None where one of the two is not known."""
    return None if was is None or now is None else was - now
