"""What a class-incremental scenario is: label values, tasks and their classes. Pure Python."""
import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

from .errors import InputError

BACKGROUND = 0
"""Label of every pixel of no class; also its logit channel."""
UNKNOWN = 254
"""Label of a foreground pixel that belongs to no class labelled in the task (the paper's c_u)."""
IGNORE = 255
"""Label of a pixel that counts nowhere."""
MAX_CLASSES = UNKNOWN - 1
"""The most classes that an 8-bit label map can hold beside the three values above."""

SETTINGS = ('overlapped', 'disjoint', 'sequential')
"""Which images a task sees, see :meth:`Scenario.labelled` and ``TaskDataset``."""


@dataclass(frozen=True)
class Scenario:
    """A class-incremental scenario ``base-increment``: '15-1' learns 15 classes, then one a task.

    A class is known by its *label*, its place in the order in which classes are learned (1..N): labels, logit
    channels, predictions and tables all use it. ``order[label - 1]`` is the class's id in the data set.

    Args:
        name: ``'<base>-<increment>'``; tasks of several sizes are named one after the other, and the last size goes on:
            '15-5-1' learns 15 classes, 5, then one a task.
        num_classes: classes of the data set, background not counted.
        order: ids (1..num_classes) of the data set's classes in the order of learning; default: as they are.
        joint: learn all classes in one task (the upper bound); base and new stay those of ``name``.
        setting: which images a task sees and which classes its masks show, see :meth:`labelled` and ``TaskDataset``:
            'overlapped', 'disjoint' or 'sequential'.

    Raises:
        InputError: the name does not fit the number of classes, the order is not a permutation, or there is no such
            setting.

    Example:
        >>> Scenario('15-5-1', num_classes=22).tasks
        (range(1, 16), range(16, 21), range(21, 22), range(22, 23))
    """

    name: str
    num_classes: int
    # Any iterable may be given; it is a tuple from then on, in the data set's own order by default.
    order: tuple[int, ...] = None  # type: ignore[assignment]  # __post_init__ fills it
    joint: bool = False
    setting: str = 'overlapped'

    def __post_init__(self) -> None:
        if re.fullmatch(r'[1-9]\d{0,5}(-[1-9]\d{0,5})+', str(self.name)) is None:
            raise InputError(f"scenario {self.name!r} is not of the form '<base>-<increment>', such as '15-1'")
        if type(self.num_classes) is not int or not 0 < self.num_classes < 10**6:
            raise InputError(f'scenario.num_classes is {self.num_classes!r}; it is a number of classes, 1 to 999999')
        if type(self.joint) is not bool:
            raise InputError(f'scenario.joint is {self.joint!r}; it is True or False')
        if self.setting not in SETTINGS:
            raise InputError(f'scenario.setting is {self.setting!r}; choose one of {", ".join(SETTINGS)}')
        *first, increment = self._sizes
        base = sum(first)
        new = self.num_classes - base
        if new < 0:
            raise InputError(f"scenario '{self.name}' starts with {base} classes, but the data set has only "
                             f'{self.num_classes}; choose a smaller base')
        if new % increment:
            raise InputError(f"scenario '{self.name}' does not fit {self.num_classes} classes: the {new} after the "
                             f'{"base" if len(first) == 1 else f"first {base}"} cannot be learned {increment} at a '
                             f'time; choose an increment that divides {new}')
        if isinstance(self.order, str) or not isinstance(self.order, Iterable | None):
            raise InputError(f'scenario.order is {self.order!r}; it is a list of class ids in the order of learning')
        order = tuple(range(1, self.num_classes + 1) if self.order is None else map(_plain, self.order))
        if not all(type(i) is int for i in order) or sorted(order) != list(range(1, self.num_classes + 1)):
            raise InputError(f'the class order of scenario {self.name!r} must hold every id from 1 to '
                             f'{self.num_classes} once; {_permutation_fault(order, self.num_classes)}')
        object.__setattr__(self, 'order', order)

    @property
    def _sizes(self) -> list[int]:
        """The sizes that the name lists, of the base first."""
        return list(map(int, str(self.name).split('-')))

    @cached_property
    def _split(self) -> tuple[range, ...]:
        """The labels of the base classes, then those of each increment."""
        *first, increment = self._sizes
        ends_of_first = [size + 1 for size in accumulate(first)]
        starts = [1, *ends_of_first[:-1], *range(ends_of_first[-1], self.num_classes + 1, increment)]
        ends = [*starts[1:], self.num_classes + 1]
        return tuple(range(a, b) for a, b in zip(starts, ends, strict=True))

    @property
    def tasks(self) -> tuple[range, ...]:
        """The labels learned in each task; ``tasks[0]`` is the base task (the paper's t = 1)."""
        return (range(1, self.num_classes + 1), ) if self.joint else self._split

    @property
    def base(self) -> range:
        """Labels of the base classes."""
        return self._split[0]

    @property
    def new(self) -> range:
        """Labels of all classes learned after the base task."""
        return range(self.base.stop, self.num_classes + 1)

    def seen(self, task: int) -> range:
        """Labels of all classes learned up to and including ``task``."""
        return range(1, self.tasks[task].stop)

    def old(self, task: int) -> range:
        """Labels of all classes learned before ``task``."""
        return range(1, self.tasks[task].start)

    def future(self, task: int) -> range:
        """Labels of all classes learned after ``task``."""
        return range(self.tasks[task].stop, self.num_classes + 1)

    def classes_per_task(self, task: int) -> tuple[int, ...]:
        """The number of classes of each task up to and including ``task``.

        Example:
            >>> Scenario('15-1', 20).classes_per_task(2)
            (15, 1, 1)
        """
        return tuple(len(labels) for labels in self.tasks[:task + 1])

    def labelled(self, task: int) -> range:
        """Labels that the masks of ``task`` show: the new classes; in the sequential setting the old ones too."""
        return self.seen(task) if self.setting == 'sequential' else self.tasks[task]

    def check_task(self, task: int) -> int:
        """Return ``task`` if the scenario has it, else raise :class:`.InputError`."""
        if not hasattr(task, '__index__') or not 0 <= task < len(self.tasks):
            raise InputError(f'scenario {self.name!r} has the tasks 0 to {len(self.tasks) - 1}, but '
                             f'task {task!r} was asked for')
        return task


def _plain(number: Any) -> Any:
    """Convert an integer of another library, such as numpy's, to Python's int; return anything else as it is."""
    return number if isinstance(number, bool) or not hasattr(number, '__index__') else operator.index(number)


def _permutation_fault(order: Sequence[Any], num_classes: int) -> str:
    """Say which ids of a wrong class order are missing, repeated or unknown."""
    expected = range(1, num_classes + 1)
    faults: dict[str, list] = {
        'missing': [i for i in expected if i not in order],
        'repeated': [i for i in expected if order.count(i) > 1],
        'not a class id': [i for i in order if isinstance(i, bool) or i not in expected],
    }
    return '; '.join(f'{name}: {", ".join(map(repr, ids))}' for name, ids in faults.items() if ids)
