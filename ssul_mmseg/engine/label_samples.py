"""Collect what a task is trained on, by the data set, the sampler and the network of its training."""
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..datasets.label_sources import keeping_sources
from ..models.one_pass import load
from ..models.trained_labels import trained_labels
from ..scenario import IGNORE
from ..work_dir.layout import MEMORY, WEIGHTS
from .groups import group_size
from .processes import unwrap
from .run import Run
from .runner import TaskRunner, task_runner
from .task_config import task_config

Key = tuple[int, int]
"""Position in the data set, and view."""
PADDING = {'img': 0, 'mask': IGNORE, 'salient': 0}
"""What crops are filled up with where an image is smaller."""


@dataclass(frozen=True)
class LabelSample:
    """One augmented image of a task; all maps are of one size (H, W) and hold labels.

    Args:
        image: its id, the path below the image folder.
        view: which augmentation.
        replayed: whether it is an exemplar of the memory.
        pixels: uint8 (H, W, 3) RGB.
        mask: uint8, all classes of the data set; what crops pad is ignored.
        salient: bool, S(x).
        shown: uint8, the labels that the pipeline gives.
        trained: uint8, the labels that the loss gets.
    """

    image: str
    view: int
    replayed: bool
    pixels: np.ndarray
    mask: np.ndarray
    salient: np.ndarray
    shown: np.ndarray
    trained: np.ndarray

    @property
    def changed(self) -> np.ndarray:
        """Where the method gave another label than the pipeline, such as a pseudo-label: bool (H, W)."""
        return self.shown != self.trained


@dataclass(frozen=True)
class TaskLabels:
    """What a task is trained on.

    Args:
        samples: some of its images, in the order of its batches.
        classes: names by label, background first.
        palette: RGB colours by label.
        has_old: whether the old network has labelled the images; False in task 0 too.
    """

    samples: Sequence[LabelSample]
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    has_old: bool


def task_labels(run: Run, task: int, images: int) -> TaskLabels:
    """Collect images of a task's first batches, spread over new images and exemplars.

    The network starts from the old task's weights, as training does; where the work dir has none, there are neither
    pseudo-labels nor exemplars. The work dir is left as it is, but for the class index.

    Args:
        run: the run.
        task: index of the task.
        images: how many.
    """
    has_old = task > 0 and run.has(task - 1, WEIGHTS, MEMORY)
    if not has_old:
        run.memory = None
    config = task_config(run.config, task)
    config.train_dataloader.dataset.pipeline = keeping_sources(config.train_dataloader.dataset.pipeline)
    config.visualizer = None
    with tempfile.TemporaryDirectory() as folder:
        config.work_dir = folder  # for the log
        if not run.work_dir.is_dir():
            for loader in (config.train_dataloader, config.test_dataloader):
                loader.dataset.index_cache = folder
        runner = task_runner(run, config, task)
        samples = list(_samples(runner, _keys(runner, images), has_old))
    dataset = runner.train_dataloader.dataset
    return TaskLabels(samples, dataset.metainfo['classes'], dataset.metainfo['palette'], has_old)


def _keys(runner: TaskRunner, images: int) -> list[Key]:
    """Keys of images of the first batches; of one batch they are spread over it, as its second half are exemplars."""
    sampler, views = runner.train_dataloader.batch_sampler, getattr(runner.train_loop, 'views', 1)
    batches = -(-images // sampler.batch_size)
    keys = [key for iteration in range(batches) for key in sampler.batch(iteration, views)]
    return [keys[place * len(keys) // images] for place in range(images)]


def _samples(runner: TaskRunner, keys: list[Key], has_old: bool) -> Iterator[LabelSample]:
    """Load images by their keys and label them as training does."""
    loader, model = runner.train_dataloader, unwrap(runner.model)
    dataset, sampler = loader.dataset, loader.batch_sampler
    size = 1
    model.eval()  # without an old network the labels do not depend on the new one
    if has_old:
        runner._init_model_weights()
        model.before_training(loader)
        model.train()
        size = sampler.local_size if getattr(runner.train_loop, 'cache', None) is None else group_size(sampler)
    parts = [keys[start:start + size] for start in range(0, len(keys), size)]
    for part, data in zip(parts, load(loader, parts), strict=True):
        with runner.optim_wrapper.optim_context(model):
            labels = trained_labels(model, data, size)
        for (position, view), sample, shown, trained in zip(part, data['data_samples'], *labels, strict=True):
            padded = {key: _padded(sample.metainfo[key], shown.shape, value) for key, value in PADDING.items()}
            yield LabelSample(
                dataset.image_id(dataset.image_at(position)), view, position >= dataset.num_new,
                padded['img'][..., ::-1], padded['mask'], padded['salient'] > 0, shown.numpy(), trained.numpy())


def _padded(pixels: np.ndarray, size: Sequence[int], value: int) -> np.ndarray:
    """Pad an image or a label map at its right and its lower side, as the network's preprocessor does."""
    margins = [(0, size[0] - pixels.shape[0]), (0, size[1] - pixels.shape[1])]
    return np.pad(pixels, margins + [(0, 0)] * (pixels.ndim - 2), constant_values=value)
