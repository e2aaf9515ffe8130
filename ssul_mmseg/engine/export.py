"""Write the network of a learned task in a form that runs without this package; check that it computes the same."""
import importlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import cv2
import mmengine
import mmseg
import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..models.portable import PortableNetwork
from ..models.stock import stock_network
from ..work_dir.files import write_atomically
from ..work_dir.weights import save_state
from .config_faults import config_faults
from .learned_network import LearnedNetwork, learned_network
from .recorded_config import read_recorded_config
from .run import Run
from .stock_config import stock_config

LARGEST_ERROR = 1e-4
"""Of logits, in units of the largest logit where that is above 1."""
SIZES = ((1, 96, 128), (2, 97, 131))
"""Numbers of images and sizes that what is written is checked at; a network is traced at the first."""
UNKNOWN_NAME, UNKNOWN_COLOUR = 'unknown', [192, 192, 192]
OPSET = 17


def load_network(work_dir: str | Path, task: int | None) -> LearnedNetwork:
    """Load the network of a learned task by what its work dir holds.

    Args:
        work_dir: of the run.
        task: index of the task, or None for the last learned.

    Raises:
        InputError: the folder holds no run or no such task, or its weights do not fit its config.
    """
    cfg = read_recorded_config(work_dir)
    return learned_network(cfg, Run(cfg).learned_task(task))


def export(work_dir: str | Path, task: int | None, form: str, unknown: str, out: str | Path) -> list[str]:
    """Write the network of a learned task to a file, after a check that it computes what the learned network computes.

    Args:
        work_dir: of the run.
        task: index of the task, or None for the last learned.
        form: one of :data:`FORMATS`.
        unknown: 'merge', as background; 'keep', as the last channel.
        out: the file.

    Returns:
        Sentences that say what was written and how it was checked.

    Raises:
        InputError: the network cannot be written in that form, or computes something else there; no file is left.
    """
    learned = load_network(work_dir, task)
    network = PortableNetwork(learned.model, unknown == 'merge')
    if network.merge and learned.model.merge_unknown == 'scores':
        raise InputError("this network adds unknown's score to the background's (model.merge_unknown=scores), which no "
                         'exported logit does; export it with --unknown keep and add the sigmoids of the two')
    classes, palette = ['background', *learned.weights.classes], list(learned.weights.palette)
    if network.keeps_unknown:
        classes, palette = [*classes, UNKNOWN_NAME], [*palette, UNKNOWN_COLOUR]
    with torch.no_grad():
        checked = FORMATS[form](learned, network, dict(classes=classes, palette=palette), Path(out))
    return [f'{out}: task {learned.weights.task}, channels {", ".join(classes)}', *checked]


def _export_mmseg(learned: LearnedNetwork, network: PortableNetwork, meta: dict, out: Path) -> list[str]:
    """Write one checkpoint with config, names and colours."""
    seen = 1 + len(learned.weights.classes)
    with config_faults(learned.config):
        config, stock = stock_network(learned.model, learned.config.model, network.merge)
        cfg = stock_config(learned.config, config, meta['classes'][:seen], meta['palette'][:seen])
    worst = 0.
    for images in _images():
        # mmseg upsamples what its head gives; unknown is merged before that.
        expected = network.grid_logits(images)
        worst = max(worst, _error(stock(network.normalised(images)), network.merged(expected)))
    _check(worst, 'mmseg')
    save_state(out, {'state_dict': stock.state_dict(), 'meta': {
        'cfg': cfg.pretty_text, 'dataset_meta': meta, 'mmseg_version': mmseg.__version__,
        'mmengine_version': mmengine.__version__}})
    return [f"mmseg's own network: logits on the grid of the features differ by at most {worst:.1e}"]


def _export_onnx(learned: LearnedNetwork, network: PortableNetwork, meta: dict, out: Path) -> list[str]:
    """Write an ONNX file for images of any number and size, with names and colours in its metadata."""
    onnx, onnxruntime = map(_package, ('onnx', 'onnxruntime'))
    network.broadcast_pool()
    with _quiet(), _tracing_faults('onnx'), tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'network.onnx')
        torch.onnx.export(
            network, (next(_images()), ), path, dynamo=False, opset_version=OPSET, input_names=['image'],
            output_names=['logits'], dynamic_axes={name: {0: 'batch', 2: 'height', 3: 'width'}
                                                   for name in ('image', 'logits')})
        model = onnx.load(path)
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in meta.items()})
    written = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(written, options, providers=['CPUExecutionProvider'])
    with _tracing_faults('onnx'):
        worst = _worst(network, lambda images: session.run(None, {'image': images})[0])
    _check(worst, 'onnx')
    opencv = _opencv_error(network, written)
    write_atomically(out, lambda file: file.write(written))
    return [f'onnxruntime: logits differ by at most {worst:.1e}', opencv]


def _opencv_error(network: PortableNetwork, content: bytes) -> str:
    """Say how far OpenCV's logits are off, or that it cannot run the file, which onnxruntime can all the same."""
    def run(images: np.ndarray) -> np.ndarray:
        # OpenCV 5 can read stale memory in a net that has seen another size: a net for each.
        net = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
        net.setInput(images)
        return net.forward()
    try:
        worst = _worst(network, run)
    except cv2.error as error:
        return f'OpenCV {cv2.__version__} cannot run it: {" ".join(str(error).split())[:200]}'
    if not worst <= LARGEST_ERROR:
        return f'OpenCV {cv2.__version__} computes something else (by {worst:.1e}): do not use it for this file'
    return f'OpenCV: logits differ by at most {worst:.1e}'


def _export_torchscript(learned: LearnedNetwork, network: PortableNetwork, meta: dict, out: Path) -> list[str]:
    """Write a TorchScript file for images of any number and size, with names and colours beside it inside."""
    content = io.BytesIO()
    with _quiet(), _tracing_faults('torchscript'):
        traced = torch.jit.trace(network, next(_images()), check_trace=False)
        torch.jit.save(traced, content, _extra_files={'meta.json': json.dumps(meta)})
        content.seek(0)
        loaded = torch.jit.load(content)
        worst = _worst(network, lambda images: loaded(torch.from_numpy(images)).numpy())
    _check(worst, 'torchscript')
    write_atomically(out, lambda file: file.write(content.getbuffer()))
    return [f'TorchScript: logits differ by at most {worst:.1e}']


FORMATS: dict[str, Callable[..., list[str]]] = dict(
    mmseg=_export_mmseg, onnx=_export_onnx, torchscript=_export_torchscript)


def _images() -> Iterator[Tensor]:
    """Images of noise to check with, float32 (B, 3, H, W), RGB, 0 to 255, always the same."""
    generator = torch.Generator().manual_seed(0)
    for number, *size in SIZES:
        yield torch.rand(number, 3, *size, generator=generator) * 255


def _error(found: Tensor, expected: Tensor) -> float:
    """Largest difference of logits, in units of the largest logit where that is above 1; infinite for another shape."""
    if found.shape != expected.shape:
        return float('inf')
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


def _worst(network: PortableNetwork, run: Callable[[np.ndarray], np.ndarray]) -> float:
    """Largest error of a program that runs the network."""
    return max(_error(torch.from_numpy(run(images.numpy())), network(images)) for images in _images())


def _check(worst: float, form: str) -> None:
    """Refuse an export that computes something else.

    Raises:
        InputError: it does.
    """
    if not worst <= LARGEST_ERROR:
        raise InputError(f'--to {form} changes what this network computes (its logits by {worst:.1e} of the largest); '
                         'nothing was written: choose another form with --to')


@contextmanager
def _tracing_faults(form: str) -> Iterator[None]:
    """Report a network that cannot be traced for images of any size in one sentence."""
    try:
        yield
    except Exception as error:  # tracers and engines raise almost anything
        fault = ' '.join(str(error).split())[:200]
        raise InputError(f'this network cannot be exported with --to {form} for images of any size ({fault}); nothing '
                         'was written: choose another form with --to') from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what tracers print: Python values that become constants are found by the check at another size."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)


def _package(name: str) -> ModuleType:
    """Import a package of the extra ``export``.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f'--to onnx needs the package {name}, which cannot be imported ({error}); install it with: '
                         "pip install 'ssul_mmseg[export]'") from error
