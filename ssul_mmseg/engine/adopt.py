"""Turn a plain mmseg network into a learned task 0, to which classes are added."""
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmseg.registry import MODELS
from torch import Tensor

from ..datasets.classes import BACKGROUND_NAME, check_number, class_colours, class_names, metainfo_of
from ..datasets.transforms import LoadImage, whole_image_pipeline
from ..errors import InputError
from ..models.adopted import (
    build_plain,
    check_adoptable,
    difference,
    load_trunk,
    normalise_skip,
    set_filters,
    split_filters,
    widen_filters,
)
from ..models.segmentors import IncrementalSegmentor
from ..solver.cells import Cells
from ..solver.from_softmax import Calibration, calibrate, one_against_rest, softmax_cells, undecided_bias
from ..work_dir.files import digest
from ..work_dir.layout import WEIGHTS
from ..work_dir.weights import save_weights, tensor_digest
from .config_faults import config_faults
from .plain_checkpoint import PlainCheckpoint, read_plain_checkpoint
from .resume import record_run
from .run import Run
from .task_config import bare_network_config

CELLS_PER_IMAGE = 256
"""Cells of an image that calibration sees, at most, drawn at random: more of few images say little more."""


def adopt(cfg: Config, file: str | Path, images: Sequence[str] = (), trusted: bool = False) -> list[str]:
    """Write a plain mmseg network as the learned task 0 of a scenario.

    Args:
        cfg: the scenario's config with ``work_dir``; its network has the plain one's backbone, neck and head.
        file: checkpoint of mmseg's ``EncoderDecoder``, trained by softmax.
        images: files of unlabelled images to calibrate the scores on; without any they follow from the weights alone.
        trusted: whether the checkpoint may be unpickled.

    Returns:
        Sentences that say what was done.

    Raises:
        InputError: the network or its classes do not fit the config, task 0 is there already, or ``skip`` is set and
            there are no images; nothing is written.
    """
    run = Run(cfg)
    path = run.folder(0) / WEIGHTS
    if path.exists():
        raise InputError(f'task 0 is in {cfg.work_dir} already; choose another --out')
    names, palette = _classes_of(cfg, run)
    with config_faults(cfg):
        config = bare_network_config(cfg, 0)
        model: IncrementalSegmentor = MODELS.build(config.model)
    check_adoptable(model, bool(images))
    checkpoint = read_plain_checkpoint(file, trusted)
    trunk, weight, bias = split_filters(checkpoint.state, checkpoint.file)
    order = _order_of(checkpoint, len(bias), names)
    load_trunk(model, trunk, checkpoint.file, cfg.filename)
    model.eval()
    weight = widen_filters(model, weight)
    compared = _compare(model, checkpoint, weight, bias, cfg.filename)
    has_background = order[0] is not None
    order = [place for place in order if place is not None]
    weight, bias = weight[order], bias[order]
    start = one_against_rest(weight, bias)
    said = [f'{path}: {", ".join(names)}; {"background is kept" if has_background else "background is made"}', compared]
    # Unknown never won against the old classes: it wins where they all are as good as tied.
    undecided = torch.zeros(1, weight.shape[1]), torch.full((1, ), undecided_bias(len(bias)))
    start = torch.cat([start[0], undecided[0]]), torch.cat([start[1], undecided[1]])
    if images:
        channels = [*([BACKGROUND_NAME] if has_background else []), *names, 'unknown']
        found, sentence = _calibrated(model, config, images, weight, bias, start, channels)
        start = found.weight, found.bias
        said.append(sentence)
    else:
        said.append('scores follow from the weights alone; --images FOLDER calibrates them')
    if not has_background:
        start = torch.cat([undecided[0], start[0]]), torch.cat([undecided[1], start[1]])
    set_filters(model, *start)
    origin = {'old weights': '', 'images': '', 'adopted': digest(''.join(
        f'{key} {tensor_digest(value)}\n' for key, value in checkpoint.state.items()).encode())}
    record_run(cfg)
    save_weights(path, model.state_dict(), names, palette, 0, origin)
    return said


def _classes_of(cfg: Config, run: Run) -> tuple[list[str], list[list[int]]]:
    """Names of task 0's classes in the order of learning, and the colours of background and them."""
    dataset = cfg.train_dataloader.dataset.dataset
    metainfo = metainfo_of(dataset)
    if 'classes' not in metainfo:
        raise InputError('train_dataloader.dataset.dataset does not say what its classes are called; set '
                         'metainfo.classes there')
    names = class_names(metainfo, dataset['type'])
    check_number(names, run.scenario.num_classes, dataset['type'])
    ids = [run.scenario.order[label - 1] for label in run.scenario.tasks[0]]
    colours = class_colours(metainfo, dataset['type'])
    if not colours:
        colours = np.random.default_rng(0).integers(0, 256, (len(names), 3)).tolist()
    return [names[number - 1] for number in ids], [[0, 0, 0], *(colours[number - 1] for number in ids)]


def _order_of(checkpoint: PlainCheckpoint, num_filters: int, names: Sequence[str]) -> list[int | None]:
    """Places of the plain network's filters: background's, or None where it has none, then those of task 0's classes.

    Raises:
        InputError: the plain network's classes are not those of task 0.
    """
    known = checkpoint.classes
    if known is None:
        if num_filters not in (len(names), len(names) + 1):
            raise InputError(f'{checkpoint.file} has {num_filters} classes, but task 0 of the config has '
                             f'{len(names)}, or {len(names) + 1} with background; correct scenario.name, or give '
                             'another checkpoint')
        offset = num_filters - len(names)
        return [0 if offset else None, *range(offset, num_filters)]
    if len(known) != num_filters:
        raise InputError(f'{checkpoint.file} names {len(known)} classes, but its head has {num_filters} filters; give '
                         'a checkpoint whose names and filters are as many')
    plain = [name.strip().casefold() for name in known]
    wanted = [name.casefold() for name in names]
    others = [name for name in plain if name not in (*wanted, BACKGROUND_NAME)]
    missing = [name for name in wanted if name not in plain]
    if others or missing or len(set(plain)) < len(plain):
        faults = [*(f'{name} is not in the checkpoint' for name in missing),
                  *(f'{name} is not in task 0' for name in others)]
        fault = (faults or ['a name stands for two classes'])[0]
        raise InputError(f'the {len(known)} classes of {checkpoint.file} are not those of task 0 of the config: '
                         f'{fault}; list them there, the new ones after them')
    background = plain.index(BACKGROUND_NAME) if BACKGROUND_NAME in plain else None
    return [background, *map(plain.index, wanted)]


def _compare(model: IncrementalSegmentor, checkpoint: PlainCheckpoint, weight: Tensor, bias: Tensor,
             config: str | None) -> str:
    """Compare the network with the one that the checkpoint's config describes, where it has one.

    Raises:
        InputError: they compute different logits.
    """
    if checkpoint.network is None:
        return ('the checkpoint carries no config to compare with: see to it that strides, dilations and normalisation '
                'of the config are those it was trained with')
    try:
        plain: Any = build_plain(checkpoint.network, checkpoint.state)
    except Exception as error:  # it may name anything
        return (f'the network that the checkpoint describes cannot be built here ({type(error).__name__}), so it was '
                'not compared')
    fault = difference(model, plain, weight, bias)
    if fault:
        raise InputError(f'the config {config} does not describe the network of {checkpoint.file}: {fault}; '
                         'copy the values from the config it was trained with')
    return 'its logits are those of the plain network'


def _calibrated(model: IncrementalSegmentor, config: Config, images: Sequence[str], weight: Tensor, bias: Tensor,
                start: tuple[Tensor, Tensor], names: Sequence[str]) -> tuple[Calibration, str]:
    """Filters that are calibrated on images, and a sentence about them."""
    begin = time.monotonic()
    features = normalise_skip(model, list(_features_of(model, config, images)))
    blocks = [softmax_cells(cells, weight, bias) for cells in features]
    found = calibrate(blocks, *start, names)
    agree = sum(_agreement(cells, found) for cells in blocks) / sum(len(cells.features) for cells in blocks)
    kept = f'; too few of {", ".join(found.kept)}, kept from the weights alone' if found.kept else ''
    seconds = time.monotonic() - begin
    return found, (f'calibrated on {len(images)} images in {seconds:.0f} s: {agree:.1%} of the cells keep their class'
                   f'{kept}')


def _agreement(cells: Cells, found: Calibration) -> float:
    """Number of cells whose largest channel is the softmax's; unknown counts as another."""
    return (cells.features @ found.weight.T + found.bias).argmax(1).eq(cells.targets[:, :-1].argmax(1)).sum().item()


@torch.no_grad()
def _features_of(model: IncrementalSegmentor, config: Config, images: Sequence[str]) -> Iterator[Tensor]:
    """Features float32 (N, d) of some cells of each image, on the CPU."""
    load = LoadImage()
    prepare = whole_image_pipeline(config.test_dataloader.dataset.pipeline)
    model.to(get_device())
    generator = torch.Generator().manual_seed(0)
    for image in images:
        packed = prepare(load(dict(img_path=str(image), seg_fields=[])))
        batch = model.data_preprocessor(dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]))
        cells = model.trunk(batch['inputs'])[0].flatten(1).T.float().cpu()
        yield cells[torch.randperm(len(cells), generator=generator)[:CELLS_PER_IMAGE]].contiguous()
    model.to('cpu')
