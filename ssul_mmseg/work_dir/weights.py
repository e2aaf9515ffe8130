"""Weights that pass from task to task: a plain state dict, with the task and classes it belongs to, never unpickled."""
import contextlib
import io
import os
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .files import digest, write_atomically

FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'


def save_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a dict of tensors and plain values atomically."""
    content = io.BytesIO()  # not straight to disk: torch would hide the OSError of a full disk behind its own error
    torch.save(dict(state), content)
    write_atomically(path, lambda file: file.write(content.getbuffer()))


def load_state(path: str | Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote, onto the CPU, without running any code in it.

    Raises:
        InputError: the file is missing, torn, or holds more than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # torch ignores the checksums, and silently reads nothing from an entry that is marked as a folder.
            if archive.testzip() or any(entry.external_attr for entry in archive.infolist()):
                raise zipfile.BadZipFile('a checksum differs')
        state = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f'weights {path} are missing; train that task first') from error
    except pickle.UnpicklingError as error:
        raise InputError(f'{path} is torn, or holds more than tensors and is not loaded, because unpickling it could '
                         'run code; train that task again') from error
    except Exception as error:  # a damaged archive raises almost anything
        raise InputError(f'{path} is torn or is no file of weights; delete it and train that task again') from error
    if not isinstance(state, dict):
        raise InputError(f'{path} holds a {type(state).__name__}, not a dict of weights; train that task again')
    return state


@contextlib.contextmanager
def forbid_unpickling() -> Iterator[None]:
    """Make every ``torch.load`` in the context refuse to unpickle, mmengine's too, which falls back on unpickling."""
    was = os.environ.get(FORCE)
    os.environ[FORCE] = '1'
    try:
        # mmengine prints that it falls back on unpickling, which then fails; a download prints its progress.
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        os.environ.pop(FORCE)
        if was is not None:
            os.environ[FORCE] = was


def tensor_digest(tensor: Tensor) -> str:
    """Checksum of a tensor's values."""
    return digest(tensor.detach().cpu().contiguous().numpy().tobytes())


def not_finite(state: Any, name: str = '') -> str | None:
    """Name of a tensor with a value that is NaN or infinite, in nested dicts and lists, or None."""
    if isinstance(state, Tensor):
        return name if state.is_floating_point() and not state.isfinite().all() else None
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(state, Mapping):
        items = state.items()
    elif isinstance(state, list):
        items = enumerate(state)
    found = (not_finite(value, f'{name}.{key}'.removeprefix('.')) for key, value in items)
    return next((key for key in found if key is not None), None)


@dataclass(frozen=True)
class TaskWeights:
    """The weights of a learned task, and what they belong to.

    Args:
        state_dict: of the whole model.
        method_state: the method's own state, for the next task.
        classes: names of the classes seen so far in the order of learning, without background.
        palette: RGB colours, 0 to 255, of background and these classes.
        task: index of the task.
        digest: checksum of all tensors.
        origin: what the task was learned from, see ``weights_hook.origin_of``.
    """

    state_dict: dict[str, Tensor]
    method_state: dict[str, Tensor]
    classes: list[str]
    palette: list[list[int]]
    task: int
    digest: str
    origin: dict[str, str]


def save_weights(path: str | Path, state_dict: Mapping[str, Tensor], classes: Sequence[str],
                 palette: Sequence[Sequence[int]], task: int, origin: Mapping[str, str],
                 method_state: Mapping[str, Tensor] | None = None) -> None:
    """Write the weights of a learned task, with what it takes to show their predictions.

    The arguments are those of :class:`TaskWeights`.
    """
    state = {key: value.detach().cpu() for key, value in state_dict.items()}
    own = {key: value.detach().cpu() for key, value in (method_state or {}).items()}
    named = {**state, **{f'method_state.{key}': value for key, value in own.items()}}
    checksum = digest('\n'.join(f'{key} {tensor_digest(value)}' for key, value in named.items()).encode())
    save_state(path, {'state_dict': state, 'method_state': own, 'meta': {
        'classes': list(classes), 'palette': [list(map(int, colour)) for colour in palette], 'task': task,
        'digest': checksum, 'origin': dict(origin)}})


def read_weights(path: str | Path, task: int) -> TaskWeights:
    """Read the weights of a learned task, whatever its classes.

    Args:
        path: the file.
        task: the task that learned them.

    Raises:
        InputError: the file is unusable.
    """
    content = load_state(path)
    meta: Any = content.get('meta')
    tensors = [content.get('state_dict'), content.get('method_state')]
    kinds = {'classes': list, 'palette': list, 'task': int, 'digest': str, 'origin': dict}
    if not (isinstance(meta, dict) and all(map(_is_state, tensors))
            and all(isinstance(meta.get(key), kind) for key, kind in kinds.items())
            and len(meta['palette']) == len(meta['classes']) + 1 and all(map(_is_colour, meta['palette']))):
        raise InputError(f'{path} is not the weights of a task; train task {task} again')
    return TaskWeights(content['state_dict'], content['method_state'], **{key: meta[key] for key in kinds})


def _is_state(part: Any) -> bool:
    """Whether a value is a dict of tensors by name."""
    return isinstance(part, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in part.items())


def _is_colour(value: Any) -> bool:
    """Whether a value is three whole numbers from 0 to 255."""
    return isinstance(value, list) and len(value) == 3 and all(type(x) is int and 0 <= x < 256 for x in value)


def load_weights(path: str | Path, classes: list[str], task: int) -> TaskWeights:
    """Read the weights of a learned task.

    Args:
        path: the file.
        classes: names of the classes that they must know, in order.
        task: the task that they must be of.

    Raises:
        InputError: the file is unusable, or of another task, scenario or class order.
    """
    learned = read_weights(path, task)
    if learned.task != task or learned.classes != list(classes):
        raise InputError(f'{path} is of task {learned.task} and the classes {_shorten(learned.classes)}, but task '
                         f'{task} and the classes {_shorten(classes)} are needed; it belongs to another scenario or '
                         'class order: give the config that was trained')
    return learned


def fill(model: nn.Module, weights: Mapping[str, Tensor], path: str | Path, config: str | None) -> None:
    """Load the weights of a file into the network of a config.

    Raises:
        InputError: the network has other weights, or of other shapes.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f'{path} does not fit the network of the config {config}; give the config that was trained, '
                         'with its --cfg-options') from error


def _shorten(names: list[str]) -> str:
    """A list of names for a sentence."""
    shown = ', '.join(map(str, names[:4]))
    return f'[{shown}]' if len(names) <= 4 else f'[{shown}, ... {names[-1]}] ({len(names)})'
