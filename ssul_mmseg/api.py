"""The functions that other programs call: learn a scenario, load a learned task, predict images with it."""
from . import quiet  # noqa: F401 - before anything imports mmseg

# isort: split
import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from PIL import Image

from .cli import default_work_dir
from .engine.optim import mixed_precision_wrapper
from .engine.recorded_config import read_recorded_config
from .engine.run import Run
from .engine.scenario_loop import run_scenario
from .errors import InputError
from .options import read_config
from .prediction import Prediction, Predictor


def load_model(work_dir: str | Path, task: int | None = None, config: str | Path | Config | None = None) -> Predictor:
    """Load the network of a learned task; names and colours of its classes come with it, no data set is needed.

    Args:
        work_dir: where a run has learned the task.
        task: which task; default: the last learned.
        config: the config that was trained; default: the one that the run has recorded in its work dir.

    Returns:
        The network in evaluation mode, on the GPU where there is one.

    Raises:
        InputError: the work dir holds no such task or no config, or its weights are damaged or do not fit.
    """
    cfg = read_recorded_config(work_dir) if config is None else _config(config)
    cfg.work_dir = str(work_dir)
    return Predictor(cfg, Run(cfg).learned_task(task))


def predict(model: Predictor, image: str | Path | Image.Image | np.ndarray, scores: bool = True) -> Prediction:
    """Predict an image of any size.

    Args:
        model: of :func:`load_model`.
        image: a file, turned as its EXIF tag says; or an image of Pillow, or uint8 (H, W, 3) RGB, as they are.
        scores: whether the prediction carries the scores of all channels, which take C x H x W x 4 bytes.

    Returns:
        ``labels``, ``unknown``, ``scores``, and the pictures ``mask()``, ``unknown_mask()`` and ``overlay()``; see
        :class:`~ssul_mmseg.prediction.Prediction`.

    Raises:
        InputError: the image is missing, damaged, too large for the memory, or an array of another kind.
    """
    return model.predict(image, scores)


def run(config: str | Path | Config, work_dir: str | Path | None = None, tasks: Sequence[int] | None = None, *,
        options: Mapping[str, Any] | None = None, seed: int | None = None, amp: bool = False, resume: bool = False,
        start_from: str | Path | None = None, trust_pickled_weights: bool = False) -> dict[str, Any]:
    """Learn and evaluate the tasks of a scenario, one after the other.

    Args:
        config: a config's file, or a config that :func:`~ssul_mmseg.options.read_config` has read.
        work_dir: where to write; default: the config's ``work_dir``, or ``work_dirs/<folder>/<config>``.
        tasks: which tasks, ascending; default: all, or all after those of ``start_from``.
        options: values of the config to change: dotted key to value, as after ``--cfg-options``.
        seed: seed of all that is random; default: the config's.
        amp: mixed precision: bfloat16, or float16 on GPUs without it.
        resume: go on where an earlier run of the same config stopped.
        start_from: the work dir of another run; the tasks that it has learned before ``tasks`` are copied.
        trust_pickled_weights: unpickle pretrained weights that hold more than tensors, which may run code in them.

    Returns:
        The results, as in ``results.json`` of the work dir: ``final``, mIoU in percent over base, new and all classes
        after the scenario's last task (None before it), and ``tasks``, an entry for each task of the work dir that was
        evaluated: mIoU and IoU in percent, forgetting in points, ``seconds``, ``peak_memory`` in bytes.

    Raises:
        InputError: bad config, data or earlier files; nothing was overwritten.
    """
    cfg = _config(config, options)
    cfg.work_dir = str(work_dir or cfg.get('work_dir') or default_work_dir(str(cfg.filename)))
    if seed is not None:
        cfg.randomness = dict(cfg.randomness, seed=seed)
    if amp:
        cfg.optim_wrapper.type = mixed_precision_wrapper()
    cfg.trust_pickled_weights = trust_pickled_weights
    return run_scenario(cfg, tasks, resume, start_from)


def _config(config: str | Path | Config, options: Mapping[str, Any] | None = None) -> Config:
    """A config of a caller's own, which may be changed."""
    if not isinstance(config, Config):
        return read_config(str(config), options)
    if options:
        raise InputError('options are given beside a config that is read already; give them to read_config, or give '
                         "the config's file")
    return copy.deepcopy(config)
