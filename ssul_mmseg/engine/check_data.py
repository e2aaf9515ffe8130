"""Say what a scenario's data hold, task by task and class by class, and all that would end a training."""
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..datasets.classes import check_number, class_names
from ..datasets.inspection import ImageFacts, inspect, label_index
from ..datasets.pairs import LeftOverError
from ..datasets.scan import MASK_VALUES
from ..datasets.source import build_source, label_table
from ..datasets.task_images import images_of_task
from ..errors import InputError
from ..evaluation.tables import table
from ..scenario import BACKGROUND, IGNORE, Scenario
from .config_faults import config_faults
from .run import Run
from .task_config import task_config

PER_LABEL = np.arange(MASK_VALUES)
"""The label table of an index that holds labels, not mask values."""


@dataclass
class Split:
    """The training or the test images.

    Args:
        names: of the classes by label, background first.
        facts: of each image.
    """

    names: Sequence[str]
    facts: list[ImageFacts]

    def held(self, label: int) -> int:
        """Number of images that hold a class."""
        return sum(label in image.pixels for image in self.facts)

    def alone(self, label: int) -> int:
        """Number of images that hold a class and no other one."""
        return sum({*image.pixels} - {BACKGROUND, IGNORE} == {label} for image in self.facts)


@dataclass
class Check:
    """What was found.

    Args:
        text: for people, Markdown.
        faults: what would end a training, a sentence each.
    """

    text: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def check_data(run: Run) -> Check:
    """Read all data of a run, and do what a training does before it begins.

    Args:
        run: the run; the class index is written to its work dir.
    """
    check = Check([_title(run)])
    train = _read(run, 'train', check)
    test = _read(run, 'test', check)
    if train is not None:
        index = label_index(train.facts)
        images = [images_of_task(index, PER_LABEL, run.scenario, task)[1] for task in run.tasks]
        used = np.any(images, axis=0)
        unused = [fault for place, image in enumerate(train.facts) if not used[place] for fault in image.image_faults]
        check.faults += _faults(train.facts, used)
        check.text += [_task_table(run.scenario, train, images), _class_table(run.scenario, train, test)]
        check.text += _remarks(run, train, test, images)
        if unused:
            check.text.append('No task uses these images: ' + '; '.join(unused))
    if test is not None:
        check.faults += _faults(test.facts, np.ones(len(test.facts), bool))
    if not check.faults:
        check.faults += _as_training_does(run)
    elif train is not None:
        check.faults += [f'task {task} ({_listed(train.names, run.scenario.tasks[task])}) has no image'
                         for task in run.tasks if not images[task].any()]
    check.faults = [*dict.fromkeys(check.faults)]
    return check


def shortened(sentences: Iterable[str], most: int | None = None) -> list[str]:
    """Say what to do about a kind of fault once, not for each of a thousand files.

    Args:
        sentences: faults, each with its remedy after '; '.
        most: how many of a kind are shown where there are more than four times as many; None: all.
    """
    kinds: dict[str, list[str]] = {}
    for sentence in sentences:
        fault, _, remedy = sentence.partition('; ')
        kinds.setdefault(remedy, []).append(fault)
    lines = []
    for remedy, faults in kinds.items():
        shown = faults if most is None or len(faults) <= 4 * most else faults[:most]
        first, *others = shown
        lines += [f'{first}; {remedy}' if remedy else first, *others]
        if len(shown) < len(faults):
            lines.append(f'and {len(faults) - len(shown):,} more of this kind (--all shows them)')
    return lines


def _title(run: Run) -> str:
    """The scenario in a line."""
    cfg, scenario = run.config, run.scenario
    return (f'{cfg.dataset_name} {scenario.name}, {scenario.setting}, {len(run.tasks)} tasks, saliency '
            f'{cfg.saliency!r}')


def _read(run: Run, split: str, check: Check) -> Split | None:
    """Read the images of a split; None where the data set cannot be built, which is noted as a fault."""
    try:
        config = task_config(run.config, 0)
        data = config[f'{split}_dataloader'].dataset
        test = split == 'test'
        with config_faults(config):
            source = build_source(data.dataset, test)
            names = class_names(source.metainfo, data.dataset.type)
            check_number(names, run.scenario.num_classes, data.dataset.type)
            facts = inspect(source, label_table(source, run.scenario), None if test else run.config.saliency,
                            data.get('saliency_dir', 'SaliencyMap'))
    except LeftOverError as error:
        check.faults += error.every
        return None
    except InputError as error:
        check.faults.append(error.sentence)
        return None
    kind = 'Test' if test else 'Training'
    check.text.append(f'{kind} images: {len(facts)}{_sizes(facts)}')
    return Split(('background', *(names[i - 1] for i in run.scenario.order)), facts)


def _sizes(facts: Iterable[ImageFacts]) -> str:
    """The sizes of images, width first as people say them."""
    sizes = Counter((image.size[1], image.size[0]) for image in facts if image.size)
    if not sizes:
        return ''
    (width, height), most = sizes.most_common(1)[0]
    if len(sizes) == 1:
        return f', all of {width} x {height} pixels'
    smallest, largest = (choose(sizes, key=lambda size: size[0] * size[1]) for choose in (min, max))
    return (f', of {len(sizes)} sizes from {smallest[0]} x {smallest[1]} to {largest[0]} x {largest[1]} pixels; '
            f'{most} are of {width} x {height}')


def _faults(facts: Sequence[ImageFacts], used: np.ndarray) -> list[str]:
    """What is wrong with all masks, and with the images that are used."""
    faults: list[str] = []
    for image, is_used in zip(facts, used, strict=True):
        faults += image.mask_faults
        if is_used or image.mask_faults:
            faults += image.image_faults
    return faults


def _task_table(scenario: Scenario, train: Split, images: Sequence[np.ndarray]) -> str:
    """Images of each task, and what their pixels are labelled as, before the old network labels any."""
    rows = []
    for task, chosen in enumerate(images):
        facts = [train.facts[place] for place in np.flatnonzero(chosen)]
        shares = [f'{share:.1%}' if facts else 'n/a' for share in _shares(facts, scenario.labelled(task))]
        if any(image.image_faults for image in facts):  # such as a missing map: what is unknown is not known
            shares[1:3] = ['n/a', 'n/a']
        rows.append((str(task), _listed(train.names, scenario.tasks[task]), str(len(facts)), *shares))
    header = ('task', 'classes', 'images', 'labelled', 'background', 'unknown', 'ignored')
    return table(header, rows, text=(0, 1))


def _shares(facts: Iterable[ImageFacts], labelled: Iterable[int]) -> list[float]:
    """Shares of labelled, background, unknown and ignored pixels: Eq. 1 without its second row."""
    shown, counts = {*labelled}, dict.fromkeys(('labelled', 'background', 'unknown', 'ignored'), 0)
    for image in facts:
        for label, (pixels, salient) in image.pixels.items():
            if label in shown or label == IGNORE:
                counts['ignored' if label == IGNORE else 'labelled'] += pixels
            else:
                counts['unknown'] += salient
                counts['background'] += pixels - salient
    total = max(1, sum(counts.values()))
    return [count / total for count in counts.values()]


def _class_table(scenario: Scenario, train: Split, test: Split | None) -> str:
    """In how many images each class is."""
    total = max(1, sum(pixels for image in train.facts for pixels, _ in image.pixels.values()))
    rows = []
    for task, labels in enumerate(scenario.tasks):
        for label in labels:
            pixels = sum(image.pixels.get(label, (0, 0))[0] for image in train.facts)
            rows.append((train.names[label], str(task), str(train.held(label)), str(train.alone(label)),
                         f'{pixels / total:.2%}', str(test.held(label)) if test else 'n/a'))
    header = ('class', 'task', 'training images', 'of these alone', 'training pixels', 'test images')
    return table(header, rows)


def _remarks(run: Run, train: Split, test: Split | None, images: Sequence[np.ndarray]) -> list[str]:
    """What is no fault and yet worth a thought."""
    scenario, remarks = run.scenario, []
    every = range(1, scenario.num_classes + 1)
    together = [label for label in every if train.held(label) and not train.alone(label)]
    if together:
        remarks.append(f'Never alone in an image, so that another class is always beside them: '
                       f'{_listed(train.names, together)}.')
    few = [task for task in run.tasks if 0 < images[task].sum() < run.config.train_dataloader.batch_size]
    if few:
        remarks.append(f'Fewer images than a batch, so that a batch repeats some: task{"s" * (len(few) > 1)} '
                       f'{", ".join(map(str, few))}.')
    absent = [label for label in every if test and not test.held(label)]
    if absent:
        remarks.append(f'In no test image, so without an IoU: {_listed(train.names, absent)}.')
    return remarks


def _listed(names: Sequence[str], labels: Iterable[int]) -> str:
    """Names of classes."""
    return ', '.join(names[label] for label in labels)


def _as_training_does(run: Run) -> list[str]:
    """What a training refuses before it begins."""
    faults = []
    for task in run.tasks:
        try:
            config = task_config(run.config, task)
            with config_faults(config):
                run.train_data(config, task)[0]
                run.test_data(config)[0]
        except InputError as error:
            faults.append(error.sentence)
    return faults
