"""The exemplar memory of SSUL-M: which training images are kept, in a JSON manifest that people can read."""
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path, PurePosixPath

from mmengine.logging import print_log

from ..errors import InputError
from ..work_dir.files import read_json, write_json

SELECTIONS = ('class_balanced', 'random')
SCHEMA = 1


@dataclass(frozen=True)
class Exemplar:
    """One kept image.

    Args:
        image: id of the image, its path below the data set's image folder.
        label: the class that it was chosen for.
        task: the task in whose data it was found.
        labels: classes in it that had ground truth when it was stored; found again in a later task, it keeps them all.
    """

    image: str
    label: int
    task: int
    labels: tuple[int, ...]


@dataclass
class ExemplarMemory:
    """Exemplars of the tasks learned so far, at most ``size``.

    Args:
        size: ``|M|``, the number of images to keep.
        selection: 'class_balanced' (section 3.5) or 'random' (Table 4).
        exemplars: the images kept.
        images_seen: images of the training sets D_t of all tasks so far; one that is in two of them counts twice.

    Raises:
        InputError: ``selection`` is none of the two, or ``size`` is below 1.
    """

    size: int
    selection: str = 'class_balanced'
    exemplars: list[Exemplar] = field(default_factory=list)
    images_seen: int = 0

    def __post_init__(self) -> None:
        if self.selection not in SELECTIONS:
            raise InputError(f'memory.selection is {self.selection!r}; choose one of {", ".join(SELECTIONS)}')
        if type(self.size) is not int or self.size < 1:
            raise InputError(f'memory.size is {self.size!r}; it is a number of images, at least 1')

    def update(self, images: Mapping[int, Sequence[str]], task: int, seed: int) -> 'ExemplarMemory':
        """The memory after ``task``.

        Class-balanced: the classes take turns. In each round every class keeps one more image, an old class one of its
        exemplars, a new class one of D_t, until ``|M|`` images are kept or none is left. So every class has an exemplar
        if ``|M|`` allows it, and old classes shrink evenly to ``|M| / n_seen``. If ``|M|`` is smaller than the number
        of classes, the newest classes come first, because they have learned least: the task's classes, rarest first,
        then the class learned last before them, and so on. A class that loses its last exemplar cannot get one
        again, as its images are gone.

        Args:
            images: ids of the images of D_t that hold each class of the task, by label.
            task: the task just learned.
            seed: seed of the choice; the result is a function of it, the task and the arguments.

        Returns:
            The updated memory; with fewer than ``|M|`` exemplars where the images run out.
        """
        chance = random.Random(f'{seed}/{task}')
        holders: dict[str, list[int]] = {}
        for label, ids in images.items():
            for image in ids:
                holders.setdefault(image, []).append(label)
        known = {exemplar.image: exemplar.labels for exemplar in self.exemplars}
        labels = {image: tuple(sorted({*known.get(image, ()), *found})) for image, found in holders.items()}
        # An exemplar that this task's images hold again is labelled anew.
        old = []
        for exemplar in self.shrink(self.size).exemplars:
            if exemplar.image in labels:
                exemplar = replace(exemplar, task=task, labels=labels[exemplar.image])
            old.append(exemplar)
        fresh: dict[int, list[Exemplar]] = {}
        for label, ids in images.items():
            fresh[label] = [Exemplar(image, label, task, labels[image]) for image in sorted(ids)]
            chance.shuffle(fresh[label])
        choose = self._balanced if self.selection == 'class_balanced' else self._random
        kept = choose(old, fresh, chance)
        return ExemplarMemory(self.size, self.selection, kept, self.images_seen + len(holders))

    def _balanced(self, old: Sequence[Exemplar], fresh: dict[int, list[Exemplar]],
                  chance: random.Random) -> list[Exemplar]:
        """Give each class one more image a round, until all places are taken."""
        queues: dict[int, list[Exemplar]] = {}
        for exemplar in old:
            queues.setdefault(exemplar.label, []).append(exemplar)
        queues.update(fresh)
        # The scarcest class chooses first, as it has the least choice.
        turns = sorted((label for label in queues if queues[label]), key=lambda label: (len(queues[label]), label))
        if len(turns) > self.size:
            # A larger label was learned later.
            old_turns = sorted((label for label in turns if label not in fresh), reverse=True)
            turns = [label for label in turns if label in fresh] + old_turns
        positions = dict.fromkeys(turns, 0)
        kept: dict[str, Exemplar] = {}
        progress = True
        while progress and len(kept) < self.size:
            progress = False
            for label in turns:
                queue = queues[label]
                # Skip images that another class has chosen: each takes one place only.
                while positions[label] < len(queue) and queue[positions[label]].image in kept:
                    positions[label] += 1
                if positions[label] < len(queue) and len(kept) < self.size:
                    kept[queue[positions[label]].image] = queue[positions[label]]
                    progress = True
        return sorted(kept.values(), key=lambda exemplar: exemplar.label)

    def _random(self, old: Sequence[Exemplar], fresh: dict[int, list[Exemplar]],
                chance: random.Random) -> list[Exemplar]:
        """Draw uniformly from all images seen: the old exemplars stand for the images that they were drawn from."""
        new = {exemplar.image: exemplar for exemplar in chain.from_iterable(fresh.values())}
        pool = [new[image] for image in sorted(new)]
        # New images get their share of the places by their number among all images seen so far.
        share = self.size * len(pool) / max(1, self.images_seen + len(pool))
        num_old = min(len(old), self.size - min(len(pool), round(share)))
        kept = chance.sample(old, num_old)
        taken = {exemplar.image for exemplar in kept}
        pool = [exemplar for exemplar in pool if exemplar.image not in taken]
        return kept + chance.sample(pool, min(len(pool), self.size - num_old))

    def shrink(self, size: int) -> 'ExemplarMemory':
        """Keep at most ``size`` exemplars, chosen by ``selection``: a function of these and of the memory."""
        smaller = replace(self, size=size)
        if len(self.exemplars) > size:
            choose = smaller._balanced if self.selection == 'class_balanced' else smaller._random
            smaller.exemplars = choose(self.exemplars, {}, random.Random(str(size)))
        return smaller

    def resize(self, size: int, selection: str, path: str | Path) -> 'ExemplarMemory':
        """Fit the memory to a run of another size: keep a part or all of it, and warn where the two differ.

        Args:
            size: ``memory.size`` of the run.
            selection: ``memory.selection`` of the run.
            path: the manifest, for the message.

        Raises:
            InputError: it was selected in another way.
        """
        if selection != self.selection:
            raise InputError(f'{path} was chosen for memory.selection={self.selection}, but this run has {selection}; '
                             'copy that task from a run with this memory, or train it again')
        fitted, found = self.shrink(size), len(self.exemplars)
        # A memory that ran out of images is the same for every larger size, unless it was full (found == size).
        if len(fitted.exemplars) < found or found == self.size < size:
            print_log(f'{path} was chosen for memory.size={self.size}, but memory.size is {size} now: '
                      f'{len(fitted.exemplars)} of its {found} exemplars are replayed, the next memory is of {size}',
                      logger='current', level=logging.WARNING)
        return fitted

    def shortage(self, seen: range) -> str | None:
        """Say in a sentence what the memory lacks; None if it lacks nothing.

        Args:
            seen: labels of the classes seen so far.
        """
        if len(self.exemplars) < self.size:
            return f'the memory keeps {len(self.exemplars)} images, not {self.size}: the tasks so far have no more'
        held = set(chain.from_iterable(exemplar.labels for exemplar in self.exemplars))
        missing = [label for label in seen if label not in held]
        if missing:
            return (f'the memory of {self.size} images has no exemplar of {len(missing)} of the {len(seen)} classes '
                    f'seen (the first is class {missing[0]}); a larger memory.size would keep one of each')
        return None

    def write(self, path: str | Path, class_names: Sequence[str]) -> None:
        """Write the manifest.

        Args:
            path: the JSON file.
            class_names: names by label, background first; they are for people, labels count.
        """
        write_json(path, {
            'schema': SCHEMA,
            'size': self.size,
            'selection': self.selection,
            'images_seen': self.images_seen,
            'exemplars': [{**asdict(e), 'labels': list(e.labels), 'class': class_names[e.label]}
                          for e in self.exemplars],
        })

    @classmethod
    def read(cls, path: str | Path) -> 'ExemplarMemory':
        """Read a manifest.

        Raises:
            InputError: the file is torn, not of this schema, or names a path outside the data.
        """
        content = read_json(path)
        try:
            if content['schema'] != SCHEMA:
                raise ValueError(f'schema {content["schema"]} is not {SCHEMA}')
            exemplars = [_read_exemplar(entry) for entry in content['exemplars']]
            if len({exemplar.image for exemplar in exemplars}) != len(exemplars):
                raise ValueError('an image is named twice')
            if type(content['images_seen']) is not int or content['images_seen'] < len(exemplars):
                raise ValueError('images_seen is not the number of images seen')
            memory = cls(content['size'], content['selection'], exemplars, content['images_seen'])
            if len(exemplars) > memory.size:
                raise ValueError(f'it lists {len(exemplars)} exemplars, more than its size of {memory.size}')
            return memory
        except (KeyError, TypeError, ValueError) as error:
            fault = f'{error} is missing' if isinstance(error, KeyError) else str(error)
            raise InputError(f'{path} is not a memory manifest ({fault}); train its task again') from error


def _read_exemplar(entry: dict) -> Exemplar:
    """Check one entry of a manifest; raises KeyError, TypeError or ValueError."""
    image, label, task, labels = entry['image'], entry['label'], entry['task'], entry['labels']
    if not isinstance(image, str) or not image or PurePosixPath(image).is_absolute() or '\0' in image \
            or '..' in PurePosixPath(image).parts:
        raise ValueError(f'{image!r} is not a path below the image folder')
    if any(type(number) is not int or number < 0 for number in (label, task, *labels)) or label not in labels:
        raise ValueError(f'the entry of {image} has wrong labels')
    return Exemplar(image, label, task, tuple(labels))
