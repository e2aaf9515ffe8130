"""Predictions of a learned task on images of the user's own: masks to go on with, overlays to look at."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from PIL import Image

from .datasets.transforms import LoadImage
from .engine.config_faults import config_faults
from .engine.task_config import network_config
from .errors import InputError
from .scenario import BACKGROUND, UNKNOWN
from .work_dir.layout import WEIGHTS
from .work_dir.weights import fill, read_weights

OVERLAY_SIDE = 800
"""The longest side of an overlay, in pixels: mmseg writes the names of the classes slowly into larger ones."""
LEFT_OUT = ('LoadImage', 'LoadLabels', 'ShortSideCenterCrop')
"""Parts of the test pipeline that do not apply: the image is loaded here, has no mask, and is predicted whole."""


@dataclass(frozen=True)
class Prediction:
    """What the network finds in one image.

    Args:
        image: the image's file.
        pixels: uint8 (H, W, 3) RGB, the image.
        labels: uint8 (H, W), of the same size: 0 background, else the class's place in the order of learning.
        classes: names by label, background first.
        palette: colours by label, RGB.
    """

    image: str
    pixels: np.ndarray
    labels: np.ndarray
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]

    def mask(self) -> Image.Image:
        """An indexed image: its values are the labels, its colours the palette's."""
        colours = np.zeros((256, 3), np.uint8)
        colours[:len(self.palette)] = self.palette
        mask = Image.fromarray(self.labels)
        mask.putpalette(colours.tobytes())
        return mask

    def overlay(self) -> Image.Image:
        """The image under its labels and their names, at most :data:`OVERLAY_SIDE` pixels wide and high."""
        pixels, labels = Image.fromarray(self.pixels), Image.fromarray(self.labels)
        pixels.thumbnail((OVERLAY_SIDE, OVERLAY_SIDE))
        labels = torch.from_numpy(np.array(labels.resize(pixels.size, Image.Resampling.NEAREST)))
        visualizer = SegLocalVisualizer(alpha=0.5)
        # mmseg's constructor takes one for the other.
        visualizer.set_dataset_meta(classes=self.classes, palette=self.palette)
        sample = SegDataSample(pred_sem_seg=PixelData(data=labels.unsqueeze(0)))
        visualizer.add_datasample(self.image, np.array(pixels), sample)
        return Image.fromarray(visualizer.get_image())

    def summary(self) -> str:
        """The classes found, largest first, and their share of the pixels."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))
        found = sorted(np.flatnonzero(counts), key=lambda label: -counts[label])
        shares = (f'{self.classes[label]} {counts[label] / self.labels.size:.1%}' for label in found)
        return f'{self.image}: {", ".join(shares)}'


class Predictor:
    """A learned task's network, for images of any size.

    Args:
        cfg: a scenario's config with ``work_dir``.
        task: index of the task.

    Raises:
        InputError: the task's weights are missing, damaged, or do not fit the config.
    """

    def __init__(self, cfg: Config, task: int) -> None:
        # Names and colours come with the weights: no data set is needed.
        with config_faults(cfg):
            cfg = network_config(cfg, task)
            self.model = MODELS.build(cfg.model)
        path = Path(cfg.work_dir) / WEIGHTS
        learned = read_weights(path, task)
        self.classes, self.palette = ('background', *learned.classes), learned.palette
        fill(self.model, learned.state_dict, path, cfg.filename)
        self.model.to(get_device()).eval()
        self.load = LoadImage()
        self.prepare = Compose([transform for transform in cfg.test_dataloader.dataset.pipeline
                                if transform['type'] not in LEFT_OUT])

    @torch.no_grad()
    def predict(self, image: str | Path) -> Prediction:
        """Predict the file of an image.

        Raises:
            InputError: it is missing or damaged.
        """
        results = self.load(dict(img_path=str(image), seg_fields=[]))
        pixels = results['img'][..., ::-1].copy()
        packed = self.prepare(results)
        sample, = self.model.test_step(dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]))
        labels = sample.pred_sem_seg.data[0].cpu().numpy()
        labels[labels == UNKNOWN] = BACKGROUND
        return Prediction(str(image), pixels, labels, self.classes, self.palette)


def output_files(images: Sequence[str], out: str) -> list[tuple[Path, Path]]:
    """The files of each image's mask and overlay, in a folder that is made where it is missing.

    Args:
        images: files of images.
        out: the folder.

    Raises:
        InputError: an image is missing, a file would be written twice or over an image, or the folder cannot be made.
    """
    for image in images:
        if not Path(image).is_file():
            raise InputError(f'there is no image {image}; give the paths of image files')
    inputs, written = {Path(image).resolve() for image in images}, {}
    files = []
    for image in images:
        files.append(tuple(Path(out, f'{Path(image).stem}{ending}.png') for ending in ('', '_overlay')))
        for file in files[-1]:
            if file.resolve() in inputs:
                raise InputError(f'{file} would be written over an image of that name; choose another folder with '
                                 '--out')
            if file in written:
                raise InputError(f'{written[file]} and {image} would both be written to {file}; rename one, or predict '
                                 'them one after the other with another --out')
            written[file] = image
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'the folder {out} cannot be made ({error.strerror}); choose another one with '
                         '--out') from error
    return files


def save(prediction: Prediction, mask: Path, overlay: Path) -> None:
    """Write the mask and the overlay of a prediction.

    Raises:
        InputError: a file cannot be written.
    """
    try:
        prediction.mask().save(mask)
        prediction.overlay().save(overlay)
    except OSError as error:
        raise InputError(f'{error.filename or mask} cannot be written ({error.strerror or error}); free space or '
                         'choose another folder with --out') from error
