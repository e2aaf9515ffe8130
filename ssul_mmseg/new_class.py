"""Add a class to a learned network in one call: the new class's filter is solved for, the old ones stay as they are."""
import colorsys
import contextlib
import copy
import os
import pprint
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmseg.registry import MODELS

from .datasets.class_index import ClassIndex
from .datasets.source import build_source, index_file
from .engine.config_faults import config_faults
from .engine.recorded_config import read_recorded_config
from .engine.run import Run
from .engine.scenario_loop import run_scenario
from .engine.task_config import TRAINED, network_config
from .errors import InputError
from .options import read_config, set_options
from .scenario import BACKGROUND, IGNORE
from .work_dir.files import write_text
from .work_dir.layout import WEIGHTS, task_dir
from .work_dir.weights import TaskWeights, read_weights

GROUND_TRUTH = 'ground_truth'
CONFIG = 'config.py'
"""The config of the new run, in its work dir."""
WIDTH = 110
"""Characters in a line of it."""
OF_A_CALL = ('work_dir', 'launcher', 'trust_pickled_weights')
"""Keys of a config that belong to a call: a work dir may be moved."""
GOLDEN = 0.618
"""Steps of this size around the circle of hues keep the colours of classes apart."""


def add_class(learned: str | Path, images: str | Path, masks: str | Path, name: str, out: str | Path, *,
              value: int | None = None, saliency: str | Path | None = None, task: int | None = None,
              colour: Sequence[int] | None = None, config: str | Path | None = None,
              options: Mapping[str, Any] | None = None, test_images: str | Path | None = None,
              test_masks: str | Path | None = None) -> Path:
    """Add a class to a learned network, from images that mark it alone; the old images are not needed.

    It is the next task of the learned run: the filters of background, unknown and the new class are the solution of the
    convex problem of docs/solvers.md; trunk and old classes' filters stay the same to the bit.

    Args:
        learned: the work dir of a run of SSUL or Analytic, or ``out`` of an earlier call.
        images: folder of images.
        masks: folder of their masks, with equal names, of one channel of at most 8 bits and the images' sizes: the
            class's value, 0 elsewhere, 255 where it is not known.
        name: of the new class.
        out: the new work dir, with copies of the tasks that are learned and the new one, and ``config.py`` for the
            tools; it must be new or empty.
        value: of the new class in the masks, 1 to 254; default: the only one beside 0 and 255.
        saliency: what is unknown: None, nothing; 'ground_truth', pixels of other values than ``value``; or the folder
            of saliency maps.
        task: the learned task to start from; default: the last.
        colour: red, green and blue of the new class, 0 to 255; default: one that the others do not have.
        config: the config that was trained; default: the one recorded in ``learned``.
        options: values of the config to change: dotted key to value, as after ``--cfg-options``.
        test_images: folder of test images, for the table of results in ``out``.
        test_masks: folder of their masks, which mark the old classes too: the k-th learned class has value k.

    Returns:
        The file of the new weights; ``load_model(out)`` loads them.

    Raises:
        InputError: an argument or a file cannot be used, or the run's method has no solution; ``out`` is left as it
            was.
    """
    cfg = read_recorded_config(learned) if config is None else read_config(str(config))
    set_options(cfg, options or {})
    cfg.work_dir = str(learned)
    run = Run(cfg)
    task = run.learned_task(task)
    old = read_weights(run.folder(task) / WEIGHTS, task)
    sizes = run.scenario.classes_per_task(task)
    if name.strip() in ('background', *old.classes):
        raise InputError(f'the class {name!r} is learned already in {learned}; give the new class another name')
    if (test_images is None) != (test_masks is None):
        raise InputError('test images and test masks are given one without the other; give both folders, or none')
    for folder, shows in ((images, 'its images'), (masks, 'its masks'), (test_images, 'the test images'),
                          (test_masks, 'their masks')):
        if folder is not None and not Path(folder).is_dir():
            raise InputError(f'there is no folder {folder}; give the one that holds {shows}')
    with _new_folder(Path(out)):
        new = _config(cfg, old, sizes, name.strip(), images, masks, _colour(colour, old))
        value = _value_of(images, masks, value, out)
        new.train_dataloader.dataset.dataset.value = value
        _set_saliency(new, saliency)
        if test_images is not None:
            new.test_dataloader.dataset.dataset.data_prefix = _folders(test_images, str(test_masks))
        new = _write(new, Path(out))
        _check_solvable(new, task + 1, learned)
        run_scenario(new, [task + 1], start_from=learned, evaluate=test_images is not None)
    return task_dir(out, task + 1) / WEIGHTS


@contextlib.contextmanager
def _new_folder(out: Path) -> Iterator[None]:
    """Leave a folder as it was, missing or empty, if what is to fill it fails."""
    there = out.is_dir()
    if os.path.lexists(out) and (not there or any(out.iterdir())):
        raise InputError(f'{out} is there already and is no empty folder; choose another folder for the new weights')
    try:
        yield
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        if there:
            out.mkdir()
        raise


def _config(cfg: Config, old: TaskWeights, sizes: Sequence[int], name: str, images: str | Path, masks: str | Path,
            colour: Sequence[int]) -> Config:
    """The config of a run that has learned tasks of some sizes and learns one class more from folders of images."""
    new = copy.deepcopy(cfg)
    # The last size of a scenario's name goes on, so that a second class needs no other name.
    later = [1] if set(sizes[1:]) <= {1} else [*sizes[1:], 1]
    new.scenario = dict(name='-'.join(map(str, [sizes[0], *later])), num_classes=sum(sizes) + 1)
    new.memory = None
    # What a record leaves out, as it may change when a run is resumed.
    new.default_hooks = {'checkpoint': None, **(new.get('default_hooks') or {})}
    for loader in (new.train_dataloader, new.test_dataloader):
        loader.setdefault('num_workers', 0)
    new.pop('data_root', None)
    data = dict(
        metainfo=dict(classes=('background', *old.classes, name), palette=[*old.palette, list(colour)]),
        data_prefix=_folders(images, masks))
    new.train_dataloader.dataset.dataset = dict(type='NewClassDataset', **data)
    new.test_dataloader.dataset.dataset = dict(type='BaseSegDataset', **data)
    if not getattr(MODELS.get(new.model.type), 'solves', False):
        incremental = dict(new.get('incremental') or {})
        if (incremental.get('solver') or dict(type=TRAINED)).get('type') == TRAINED:
            incremental['solver'] = dict(type='Newton')
        new.incremental = incremental
    return new


def _write(cfg: Config, out: Path) -> Config:
    """Write the config of the new run for the tools, and give it as they read it."""
    for key in OF_A_CALL:
        cfg.pop(key, None)
    path = out / CONFIG
    lines = [f'{key} = {pprint.pformat(value, width=WIDTH, sort_dicts=False)}\n'
             for key, value in cfg.to_dict().items()]
    write_text(path, ''.join(lines))
    new = Config.fromfile(path)
    new.work_dir = str(out)
    return new


def _folders(images: str | Path, masks: str | Path) -> dict[str, str]:
    """Where the images and masks of a data set lie, wherever the config is used."""
    return dict(img_path=os.path.abspath(images), seg_map_path=os.path.abspath(masks))


def _value_of(images: str | Path, masks: str | Path, value: int | None, out: str | Path) -> int:
    """The value of the new class in the masks.

    Raises:
        InputError: the folders do not pair, the value is not in the masks, or none is given and they hold several.
    """
    data = dict(type='BaseSegDataset', metainfo=dict(classes=('background', )), data_prefix=_folders(images, masks))
    source = build_source(data, test_mode=False)
    paths = [source.get_data_info(place)['seg_map_path'] for place in range(len(source))]
    # The run finds the index in its work dir and does not scan the masks again.
    counts = ClassIndex.load(paths, index_file(str(out), source)).counts()
    found = [held for held in np.flatnonzero(counts).tolist() if held not in (BACKGROUND, IGNORE)]
    shown = ', '.join(map(str, found)) or 'none'
    if value is not None:
        if value not in found:
            raise InputError(f'no mask in {masks} holds the value {value} (beside {BACKGROUND} and {IGNORE} they hold: '
                             f'{shown}); give the value of the new class')
        return value
    if not found:
        raise InputError(f'the masks in {masks} mark no class: they hold {BACKGROUND}, background, and {IGNORE}, '
                         'ignored, alone; save the pixels of the new class as another value, such as 1')
    if len(found) > 1:
        raise InputError(f'the masks in {masks} hold several values beside {BACKGROUND} and {IGNORE} ({shown}); say '
                         'which is the new class by its value')
    return found[0]


def _set_saliency(cfg: Config, saliency: str | Path | None) -> None:
    """Set what of the images is unknown."""
    if saliency in (None, GROUND_TRUTH):
        cfg.saliency = saliency
        return
    if not os.path.isdir(str(saliency)):
        raise InputError(f'saliency is {str(saliency)!r}, which is no folder; give the folder of saliency maps, '
                         f'{GROUND_TRUTH}, or nothing')
    cfg.saliency = 'map'
    cfg.train_dataloader.dataset.saliency_dir = os.path.abspath(str(saliency))


def _colour(colour: Sequence[int] | None, old: TaskWeights) -> list[int]:
    """The colour of the new class."""
    if colour is not None:
        return list(colour)
    number = len(old.classes) + 1
    while True:
        found = [round(255 * part) for part in colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.75, 0.85)]
        if found not in old.palette:
            return found
        number += 1


def _check_solvable(cfg: Config, task: int, learned: str | Path) -> None:
    """Refuse a network whose task is no convex problem."""
    with config_faults(cfg):
        model = MODELS.build(network_config(cfg, task).model)
    try:
        model.check_loop(not model.solves)
    except InputError as error:
        reason = error.fault.rpartition(', but ')[2]
        raise InputError(f'the new class cannot be solved for from {learned}: {reason}; train it instead, as '
                         'docs/own_data.md shows') from error
