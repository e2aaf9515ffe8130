"""The images of one task, with the labels that the task shows."""
import copy
import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dataset import Compose
from mmseg.registry import DATASETS
from torch.utils.data import Dataset

from ..errors import InputError
from ..scenario import Scenario
from ..work_dir.files import digest
from .class_index import ClassIndex
from .classes import check_number, class_colours, class_names, has_background
from .memory import ExemplarMemory
from .scan import contents_digest
from .source import NO_CLASS, build_source, image_id, index_file, label_table, saliency_path
from .task_images import images_of_task, values_of
from .transforms import LabelAugmentation

OFF_BY_ONE = 'seen_off_by_one'
MEMORY_LABELS = ('stored', 'seen', OFF_BY_ONE)


@DATASETS.register_module()
class TaskDataset(Dataset):
    """One task's share of any mmseg data set.

    A training set holds the images D_t of the task, then the exemplars of the memory. D_t are the images with a pixel
    of a class of C_t; in the settings disjoint and sequential only those without a pixel of a future class. Classes
    that the task does not label are background (``LabelAugmentation`` may turn them into unknown).

    A test set holds all images and shows all classes; the metric knows which of them are learned.

    Args:
        dataset: config of any mmseg data set; all its classes (but 'background') belong to the scenario.
        pipeline: transforms, starting with ``LoadImage`` and ``LoadLabels``.
        scenario: arguments of :class:`~ssul_mmseg.scenario.Scenario`.
        task: index of the task.
        exemplars: manifest of the exemplars to replay.
        exemplar_labels: which classes an exemplar shows: 'stored', those that were labelled when it was stored, as in
            the paper's pairs (x, y) of D_{t-1}, or 'seen', all seen so far; 'seen_off_by_one' are the latter with the
            fault of the authors' code, see :func:`~ssul_mmseg.datasets.transforms.off_by_one`.
        memory_args: ``dict(size=, selection=)`` of the run's memory, to which a manifest of another size is fitted.
        seed: seed of the augmentations.
        index_cache: folder where the class index is kept.
        saliency_dir: folder of the saliency maps, below the data root.
        test_mode: whether this is a test set.
        quiet: whether reading many files shows no progress.

    Raises:
        InputError: a folder, list, image, mask or saliency map is missing or damaged, an image is named twice, a mask
            holds a value of no class, the classes are not as many as the scenario's, two have one name, a name or a
            colour cannot be used, the task has no image, or the manifest is not of this training set.
    """

    def __init__(self,
                 dataset: dict,
                 pipeline: Sequence[dict],
                 scenario: dict,
                 task: int,
                 exemplars: str | None = None,
                 exemplar_labels: str = 'stored',
                 memory_args: dict | None = None,
                 seed: int = 0,
                 index_cache: str | None = None,
                 saliency_dir: str = 'SaliencyMap',
                 test_mode: bool = False,
                 quiet: bool = False) -> None:
        self.scenario = Scenario(**scenario)
        if exemplar_labels not in MEMORY_LABELS:
            raise InputError(f'memory.labels is {exemplar_labels!r}; choose one of {", ".join(MEMORY_LABELS)}')
        self.exemplar_labels = exemplar_labels
        self.memory_args = memory_args
        self.seed = seed
        self.saliency_dir = saliency_dir
        self.test_mode = test_mode
        self.quiet = quiet
        self.source = build_source(dataset, test_mode)
        images, masks = self._paths()
        self._check_names(images)
        names = class_names(self.source.metainfo, dataset['type'])
        check_number(names, self.scenario.num_classes, dataset['type'])
        self.label_table = label_table(self.source, self.scenario)
        self.metainfo = self._metainfo(names, class_colours(self.source.metainfo, dataset['type']))
        self.pipeline = Compose(pipeline)
        self.index = ClassIndex.load(masks, index_file(index_cache, self.source), quiet=quiet)
        self._check_values(masks)
        self._choose(task, exemplars)

    def for_task(self, task: int, exemplars: str | Path | None = None) -> 'TaskDataset':
        """Make the data set of another task; it shares with this one what does not depend on the task.

        Args:
            task: index of the task.
            exemplars: manifest of the exemplars to replay.
        """
        other = copy.copy(self)
        other._choose(task, exemplars)
        return other

    def _choose(self, task: int, exemplars: str | Path | None) -> None:
        """Choose the images of a task, with the labels that each shows, and look for their files."""
        self.task = self.scenario.check_task(task)
        self._digest: str | None = None
        if self.test_mode:
            every_class = range(1, self.scenario.num_classes + 1)
            self._samples: list[tuple[int, Sequence[int]]] = [(i, every_class) for i in range(len(self.source))]
            self.num_new = self.num_exemplars = 0
        else:
            labelled = self.scenario.labelled(task)
            new: list[tuple[int, Sequence[int]]] = [(i, labelled) for i in self._task_images()]
            old = self._exemplars(exemplars)
            self._samples = new + old
            self.num_new, self.num_exemplars = len(new), len(old)
        self._check_files()

    def _metainfo(self, names: Sequence[str], colours: Sequence[Sequence[int]]) -> dict:
        """Class names and colours by label, background first, and whether a pixel can be background at all."""
        order = self.scenario.order
        return dict(
            background=has_background(self.source.metainfo) or bool(self.source.reduce_zero_label),
            classes=('background', *(names[i - 1] for i in order)),
            palette=[[0, 0, 0], *(colours[i - 1] for i in order)])

    def _paths(self) -> tuple[list[str], list[str]]:
        """Where the data set's images and their masks lie."""
        # Not kept as attributes: every data-loader worker would copy the strings of a large data set.
        infos = map(self.source.get_data_info, range(len(self.source)))
        images, masks = zip(*((info['img_path'], info['seg_map_path']) for info in infos), strict=True)
        return list(images), list(masks)

    def _check_names(self, images: Sequence[str]) -> None:
        """Refuse an image that is named twice."""
        repeated = [path for path, count in Counter(images).items() if count > 1]
        if repeated:
            raise InputError(f'image {repeated[0]} is named twice in {self.source.ann_file or "the data set"} '
                             f'({len(repeated)} such images); name it once')

    def _check_values(self, masks: Sequence[str]) -> None:
        """Refuse masks that hold values of no class."""
        wrong = np.flatnonzero(self.label_table == NO_CLASS)
        bad = np.flatnonzero(self.index.with_any(wrong.tolist()))
        if len(bad):
            value = next(v for v in self.index.values(bad[0]) if v in wrong)
            raise InputError(f'mask {masks[bad[0]]} holds the value {value}, which is no class '
                             f'of the data set ({len(bad)} such masks); correct them, or mark such pixels 255')

    def _task_images(self) -> list[int]:
        """Images of D_t, as indices into the source."""
        holding, chosen = images_of_task(self.index, self.label_table, self.scenario, self.task)
        images = np.flatnonzero(chosen).tolist()
        if images:
            return images
        names = ', '.join(self.metainfo['classes'][label] for label in self.scenario.tasks[self.task])
        if holding.any():
            raise InputError(
                f'task {self.task} ({names}) has no image in the {self.scenario.setting} setting: each of the '
                f'{holding.sum()} that hold its classes holds one of a later task too; set '
                'scenario.setting=overlapped, or another scenario.name or scenario.order')
        values = values_of(self.label_table, self.scenario.tasks[self.task])
        found = ', '.join(map(str, np.flatnonzero(self.index.counts())))
        raise InputError(
            f'task {self.task} ({names}) has no image: no mask holds the value{"s" * (len(values) > 1)} '
            f'{", ".join(map(str, values))}, which stand{"s" * (len(values) == 1)} for {names}; the masks hold '
            f'{found}: correct the masks, or the names and the order of the classes')

    def _exemplars(self, manifest: str | Path | None) -> list[tuple[int, Sequence[int]]]:
        """Exemplars of a manifest as indices into the source, each with the labels it shows."""
        if manifest is None:
            return []
        places = {self.image_id(i): i for i in range(len(self.source))}
        exemplars: list[tuple[int, Sequence[int]]] = []
        memory = ExemplarMemory.read(manifest)
        if self.memory_args:
            wanted = ExemplarMemory(**self.memory_args)
            memory = memory.resize(wanted.size, wanted.selection, manifest)
        for exemplar in memory.exemplars:
            known = self.scenario.seen(exemplar.task) if exemplar.task < self.task else range(0)
            if exemplar.image not in places or not set(exemplar.labels) <= set(known):
                raise InputError(f'exemplar {exemplar.image!r} of {manifest} is no image of the training set, or of '
                                 'classes that its task did not label; train the task before with this data')
            shown: Sequence[int] = self.scenario.seen(self.task)
            if self.exemplar_labels == 'stored':
                shown = sorted({*self.scenario.labelled(exemplar.task), *exemplar.labels})
            exemplars.append((places[exemplar.image], shown))
        return exemplars

    def _check_files(self) -> None:
        """Find a missing image or saliency map before training does; the class index has read every mask."""
        maps = self._saliency_maps()
        for image, _ in self._samples:
            path = self.source.get_data_info(image)['img_path']
            if not os.path.isfile(path):
                raise InputError(f'image {path} is missing; restore it or remove it from the image list')
            for transform in maps:
                transform.check(self.saliency_path(image))

    def _saliency_maps(self) -> list[LabelAugmentation]:
        """The transforms of the pipeline that read saliency maps."""
        return [transform for transform in self.pipeline.transforms if getattr(transform, 'saliency', None) == 'map']

    def image_id(self, image: int) -> str:
        """Name of an image that does not depend on where the data lie: its path below the image folder."""
        return image_id(self.source, image)

    def saliency_path(self, image: int) -> str:
        """Where an image's saliency map lies."""
        return saliency_path(self.source, self.saliency_dir, image)

    def image_at(self, position: int) -> int:
        """Index into the source of the image at a position of this data set."""
        return self._samples[position][0]

    def images_by_class(self) -> dict[int, list[str]]:
        """Ids of the images of D_t that hold each class of the task, by label."""
        images = np.array([image for image, _ in self._samples[:self.num_new]])
        found = {}
        for label in self.scenario.tasks[self.task]:
            holding = self.index.with_any(values_of(self.label_table, [label]))
            found[label] = [self.image_id(image) for image in images[holding[images]]]
        return found

    def digest(self) -> str:
        """Checksum of what the task learns from: its images in their order, the labels that each shows, and all bytes
        of these images, masks and saliency maps. Files are read at the first call only.
        """
        if self._digest is None:
            images, masks = self._paths()
            used = sorted({image for image, _ in self._samples})
            files = [images[image] for image in used] + [masks[image] for image in used]
            if self._saliency_maps():
                files += map(self.saliency_path, used)
            shown = '\n'.join(f'{self.image_id(image)} {" ".join(map(str, labels))}' for image, labels in self._samples)
            self._digest = digest(f'{shown}\n{contents_digest(files, self.quiet)}'.encode())
        return self._digest

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        """Load a sample.

        Args:
            key: position, or (position, view): the augmentation is a function of seed, task, position and view alone,
                whichever process or worker loads it.
        """
        position, view = key if isinstance(key, tuple) else (key, 0)
        if not self.test_mode:
            seed = np.random.SeedSequence([self.seed, self.task, position, view]).generate_state(1)[0]
            random.seed(int(seed))
            np.random.seed(seed)
        image, labelled = self._samples[position]
        results = self.source.get_data_info(image)
        results.update(label_table=self.label_table, labelled=labelled, saliency_path=self.saliency_path(image),
                       off_by_one=position >= self.num_new and self.exemplar_labels == OFF_BY_ONE)
        return self.pipeline(results)
