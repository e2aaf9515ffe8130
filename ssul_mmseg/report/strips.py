"""Strips of test images: ground truth, and what a run predicts after every task."""
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .. import components  # noqa: F401 - registers what a config may name
from ..datasets.task_dataset import TaskDataset
from ..datasets.transforms import LoadImage, LoadLabels
from ..engine.recorded_config import read_recorded_config
from ..engine.run import Run
from ..engine.task_config import task_config
from ..evaluation.tables import duration
from ..prediction import Prediction, Predictor
from .collect import ReportRun
from .pictures import css_colour, label_map, photo

SIDE = 160
"""Longest side of a picture, in pixels."""


@dataclass(frozen=True)
class Strip:
    """The pictures of one test image, as data URIs.

    Args:
        image: its id.
        photo: the image itself.
        truth: its ground truth, in the classes of the whole scenario.
        predictions: what the network predicts after each learned task.
    """

    image: str
    photo: str
    truth: str
    predictions: Sequence[str]


@dataclass(frozen=True)
class Strips:
    """The strips of a run.

    Args:
        tasks: the learned tasks.
        strips: one for each image.
        legend: name and CSS colour of each class, background left out.
    """

    tasks: Sequence[int]
    strips: Sequence[Strip]
    legend: Sequence[tuple[str, str]]


def strips_of(run: ReportRun, count: int) -> Strips:
    """Predict a few test images with the weights of every learned task; progress goes to the error stream.

    Args:
        run: the run.
        count: how many images; :func:`choose_images` says which.

    Raises:
        InputError: its weights, its config or its data are not at hand.
    """
    config, tasks = read_recorded_config(run.folder), sorted(run.tasks)
    data = Run(config).test_data(task_config(config, 0))
    palette = data.metainfo['palette']
    images = choose_images(data, count)
    shown = [load_whole(data, image) for image in images]
    predictions: list[list[str]] = [[] for _ in shown]
    for found in predict_after(run, tasks, [results['img_path'] for results in shown]):
        for prediction, strip in zip(found, predictions, strict=True):
            strip.append(label_map(prediction.labels, palette, SIDE, prediction.unknown))
    strips = []
    for image, results, predicted in zip(images, shown, predictions, strict=True):
        picture = photo(Image.fromarray(np.ascontiguousarray(results['img'][..., ::-1])), SIDE)
        truth = label_map(results['gt_seg_map'], palette, SIDE)
        strips.append(Strip(data.image_id(image), picture, truth, predicted))
    names = zip(data.metainfo['classes'], palette, strict=True)
    return Strips(tasks, strips, [(name, css_colour(colour)) for name, colour in names][1:])


def predict_after(run: ReportRun, tasks: Sequence[int], files: Sequence[str]) -> Iterator[list[Prediction]]:
    """Predict images with the weights of one task after the other; progress goes to the error stream.

    Args:
        run: the run.
        tasks: its learned tasks.
        files: the images.

    Yields:
        For each task the prediction of each image.

    Raises:
        InputError: the run's weights or its config are not at hand.
    """
    config, start = read_recorded_config(run.folder), time.monotonic()
    for done, task in enumerate(tasks, start=1):
        predictor = Predictor(config, task)
        yield [predictor.predict(file, scores=False) for file in files]
        left = (time.monotonic() - start) / done * (len(tasks) - done)
        print(f'pictures of {run.folder}: {done} of {len(tasks)} tasks, {duration(left)} to go', file=sys.stderr)


def load_whole(data: TaskDataset, image: int) -> dict:
    """An image and its labels, whole and as they are shown: the test pipeline may crop them."""
    results = {**data.source.get_data_info(image), 'label_table': data.label_table, 'seg_fields': []}
    return LoadLabels()(LoadImage()(results))


def choose_images(data: TaskDataset, count: int) -> list[int]:
    """Choose test images that together show many classes.

    The next image is the one that shows most classes which none chosen so far shows, of several the first in the data
    set's order; where no image adds a class, all classes count anew.

    Args:
        data: the test data.
        count: how many images; fewer where the data set has fewer.

    Returns:
        Indices into the source of ``data``.
    """
    labels = range(1, data.scenario.num_classes + 1)
    shows = np.stack([data.index.with_any(np.flatnonzero(data.label_table == label).tolist()) for label in labels])
    chosen: list[int] = []
    wanted = np.ones(len(labels), bool)
    while len(chosen) < min(count, shows.shape[1]):
        added = shows[wanted].sum(axis=0)
        added[chosen] = -1
        best = int(added.argmax())
        if added[best] == 0 and not wanted.all():
            wanted[:] = True
            continue
        chosen.append(best)
        wanted &= ~shows[:, best]
    return chosen
