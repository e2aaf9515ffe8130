"""Predict the user's own images with the network of a learned task: masks to compute with, overlays to look at."""
import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from PIL import Image

from .datasets.image_files import UPRIGHT, as_stored
from .datasets.pairs import IMAGE_SUFFIXES
from .datasets.transforms import LoadImage, whole_image_pipeline
from .engine.learned_network import learned_network
from .errors import InputError, is_out_of_memory
from .scenario import BACKGROUND, UNKNOWN

OVERLAY_SIDE = 800
"""The longest side of an overlay, in pixels: in larger ones mmseg takes long to write the class names."""


@dataclass(frozen=True)
class Prediction:
    """What the network finds in one image.

    Args:
        image: the image's file.
        pixels: uint8 (H, W, 3) RGB, the image as it is shown.
        labels: uint8 (H, W), of the same size: 0 background, else the class's place in the order of learning.
        classes: names by label, background first.
        palette: colours by label, RGB, whole numbers from 0 to 255.
        unknown: bool (H, W), where the network finds foreground of no class that it knows; ``labels`` are background
            there.
        scores: float32 (C, H, W) in [0, 1], the network's score of each channel, background, the classes, and unknown
            where there is such a channel; None where they were not asked for.
        orientation: how EXIF turns the stored image to the one that is shown, 1 (not at all) to 8.
    """

    image: str
    pixels: np.ndarray
    labels: np.ndarray
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    unknown: np.ndarray
    scores: np.ndarray | None = None
    orientation: int = UPRIGHT

    def mask(self) -> Image.Image:
        """An indexed image (mode P): its values are the labels, its colours the palette's.

        Like the masks of a data set it belongs to the pixels as they are stored, before EXIF turns the image.
        """
        colours = np.zeros((256, 3), np.uint8)
        colours[:len(self.palette)] = self.palette
        mask = Image.fromarray(as_stored(self.labels, self.orientation))
        mask.putpalette(colours.tobytes())
        return mask

    def unknown_mask(self) -> Image.Image:
        """A grey image (mode L), 255 where the network finds what it does not know; of the stored pixels too."""
        return Image.fromarray(as_stored(np.where(self.unknown, np.uint8(255), np.uint8(0)), self.orientation))

    def overlay(self) -> Image.Image:
        """The image (mode RGB) as it is shown, under labels and names, at most :data:`OVERLAY_SIDE` wide and high."""
        pixels, labels = Image.fromarray(self.pixels), Image.fromarray(self.labels)
        pixels.thumbnail((OVERLAY_SIDE, OVERLAY_SIDE))
        # As an array: mmseg would use a tensor of one pixel as an index.
        shown = np.array(labels.resize(pixels.size, Image.Resampling.NEAREST))
        visualizer = SegLocalVisualizer(alpha=0.5)
        # Not in the constructor, where mmseg swaps classes and palette.
        visualizer.set_dataset_meta(classes=self.classes, palette=self.palette)
        sample = SegDataSample(pred_sem_seg=PixelData(data=shown[None]))
        visualizer.add_datasample(self.image, np.array(pixels), sample)
        return Image.fromarray(visualizer.get_image())

    def summary(self) -> str:
        """The classes found and unknown, largest first, and their share of the pixels."""
        counts = np.bincount(self.labels[~self.unknown], minlength=len(self.classes)).tolist()
        found = [*zip(self.classes, counts, strict=True), ('unknown', int(self.unknown.sum()))]
        found.sort(key=lambda shown: -shown[1])
        shares = (f'{name} {count / self.labels.size:.1%}' for name, count in found if count)
        return f'{self.image}: {", ".join(shares)}'


class Predictor:
    """A learned task's network, for images of any size.

    ``classes`` are its names by label, background first; ``palette`` their RGB colours, whole numbers from 0 to 255;
    ``model`` is the segmentor.

    Args:
        cfg: a scenario's config with ``work_dir``.
        task: index of the task.

    Raises:
        InputError: the task's weights are missing, damaged, or do not fit the config.
    """

    def __init__(self, cfg: Config, task: int) -> None:
        # Names and colours come with the weights: no data set is needed.
        learned = learned_network(cfg, task)
        self.model = learned.model.to(get_device())
        self.classes, self.palette = ('background', *learned.weights.classes), learned.weights.palette
        self.load = LoadImage()
        self.prepare = whole_image_pipeline(learned.config.test_dataloader.dataset.pipeline)

    @torch.no_grad()
    def predict(self, image: str | Path | Image.Image | np.ndarray, scores: bool = True) -> Prediction:
        """Predict an image.

        Args:
            image: a file, turned as its EXIF tag says; or an image of Pillow, or uint8 (H, W, 3) RGB, as they are.
            scores: whether the prediction carries the scores of all channels.

        Returns:
            What the network finds, at the image's size.

        Raises:
            InputError: the file is missing, damaged, or too large for the memory, or the array is no such image.
        """
        name, results = self._load(image)
        try:
            pixels = results['img'][..., ::-1].copy()
            packed = self.prepare(results)
            self.model.test_cfg.seg_logits = scores
            sample, = self.model.test_step(dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]))
            labels = sample.pred_sem_seg.data[0].cpu().numpy()
            found = None
            if scores:
                found = self.model.probabilities(sample.seg_logits.data[None])[0].cpu().numpy()
        except (MemoryError, RuntimeError) as error:
            fault = (str(error) or 'MemoryError').strip().splitlines()[0]
            if not is_out_of_memory(fault):
                raise
            height, width = results['ori_shape']
            raise InputError(f'image {name} of {width} x {height} pixels is too large for the memory ({fault}); make '
                             'it smaller, or cut it into pieces') from error
        unknown = labels == UNKNOWN
        labels[unknown] = BACKGROUND
        return Prediction(name, pixels, labels, self.classes, self.palette, unknown, found,
                          results['exif_orientation'])

    def _load(self, image: str | Path | Image.Image | np.ndarray) -> tuple[str, dict]:
        """The name of an image, and what the pipeline takes."""
        if isinstance(image, str | Path):
            return str(image), self.load(dict(img_path=str(image), seg_fields=[]))
        pixels = np.asarray(image.convert('RGB') if isinstance(image, Image.Image) else image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise InputError(f'the image is an array of {pixels.dtype} {pixels.shape}; give uint8 (height, width, 3) '
                             'in RGB, an image of Pillow, or the path of a file')
        shape = pixels.shape[:2]
        # The pipeline works in BGR, as mmseg does.
        return 'the image', dict(img=pixels[..., ::-1].copy(), img_path='', img_shape=shape, ori_shape=shape,
                                 exif_orientation=UPRIGHT, seg_fields=[])


def find_images(arguments: Sequence[str]) -> list[str]:
    """The files that arguments name, each once: an image, the images of a folder, or what fits a pattern.

    Args:
        arguments: paths; in a folder all files with a usual suffix count, those of its folders do not; ``**`` of a
            pattern stands for any folders.

    Raises:
        InputError: an argument names no image.
    """
    images = itertools.chain.from_iterable(map(_images_of, arguments))
    return list(dict.fromkeys(images))  # each once, in the order of first mention


def _images_of(argument: str) -> Iterator[str]:
    """The files that one argument names."""
    path = Path(argument)
    if path.is_file():
        yield argument
        return
    if path.is_dir():
        found = [str(file) for file in sorted(path.iterdir()) if _is_image(file)]
    else:
        found = [file for file in sorted(glob.glob(argument, recursive=True)) if os.path.isfile(file)]
    if not found:
        kind = f'in the folder {argument}' if path.is_dir() else argument
        raise InputError(f'there is no image {kind}; give the paths of image files, of folders that hold some '
                         f'({", ".join(IMAGE_SUFFIXES)}), or a pattern such as "photos/*.jpg"')
    yield from found


def _is_image(file: Path) -> bool:
    """Whether a file of a folder has the name of an image; those that macOS hides beside images begin with a dot."""
    return file.is_file() and file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith('.')


def output_files(images: Sequence[str], out: str, endings: Sequence[str] = ('', '_overlay')) -> list[list[Path]]:
    """The files that are made of each image, in a folder that is made where it is missing.

    Args:
        images: files of images.
        out: the folder.
        endings: what the names of an image's files have behind its own: those of the mask and of the overlay, and of
            whatever else is made.

    Raises:
        InputError: a file would be written twice or over an image, or the folder cannot be made.
    """
    inputs = {Path(image).resolve() for image in images}
    written: dict[Path, str] = {}
    files: list[list[Path]] = []
    for image in images:
        files.append([Path(out, f'{Path(image).stem}{ending}.png') for ending in endings])
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


def save(prediction: Prediction, mask: Path, overlay: Path, unknown: Path | None = None) -> None:
    """Write the mask and the overlay of a prediction, and on request the mask of what is unknown.

    Raises:
        InputError: a file cannot be written.
    """
    try:
        prediction.mask().save(mask)
        prediction.overlay().save(overlay)
        if unknown is not None:
            prediction.unknown_mask().save(unknown)
    except OSError as error:
        raise InputError(f'{error.filename or mask} cannot be written ({error.strerror or error}); free space or '
                         'choose another folder with --out') from error
