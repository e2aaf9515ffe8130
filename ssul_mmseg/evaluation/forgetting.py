"""What a network has forgotten since it learned a class."""
from collections.abc import Collection, Mapping, Sequence

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
    lost = [{name: None if name in absent else _difference(was, now.get(name)) for name, was in classes.items()}
            for classes in learned]
    return {
        'forgetting': mean(value for classes in lost for value in classes.values()),
        'forgetting_per_task': [mean(classes.values()) for classes in lost],
    }


def _difference(was: float | None, now: float | None) -> float | None:
    """How far an IoU has fallen, or None where one of the two is not known."""
    return None if was is None or now is None else was - now
