"""Read a checkpoint of mmseg's own: weights, names of classes, and the network's config, without running code in it."""
import ast
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any

from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..errors import InputError
from ..work_dir.weights import forbid_unpickling, not_finite


@dataclass(frozen=True)
class PlainCheckpoint:
    """What a checkpoint of mmseg's own holds.

    Args:
        file: its path.
        state: state dict of the network.
        classes: names of its classes, where it has them.
        network: config of the network, ``model``, where it has one that consists of plain values.
    """

    file: str
    state: dict[str, Tensor]
    classes: list[str] | None
    network: dict[str, Any] | None


def read_plain_checkpoint(file: str | Path, trusted: bool) -> PlainCheckpoint:
    """Read a checkpoint.

    Args:
        file: its path.
        trusted: whether it may be unpickled, which may run code in it.

    Raises:
        InputError: it is missing, damaged, needs unpickling, or holds no weights or such as are not finite.
    """
    if not Path(file).is_file():
        raise InputError(f'there is no checkpoint {file}; give the path of one that mmseg has written')
    try:
        with contextlib.nullcontext() if trusted else forbid_unpickling():
            content = CheckpointLoader.load_checkpoint(str(file), map_location='cpu')
    except Exception as error:  # a damaged file raises almost anything
        if isinstance(error, UnpicklingError) and not trusted:
            raise InputError(f'{file} is damaged, or holds more than tensors and is not loaded, because unpickling it '
                             'could run code; if you trust who made it, add --trust-pickled-weights') from error
        fault = shorten(str(error) or type(error).__name__, 200)
        raise InputError(f'{file} cannot be loaded ({fault}); give a checkpoint that mmseg has written') from error
    state = content.get('state_dict', content) if isinstance(content, Mapping) else {}
    items = state.items() if isinstance(state, Mapping) else ()
    tensors = {key.removeprefix('module.'): value for key, value in items
               if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f'{file} holds no weights of a network; give a checkpoint that mmseg has written')
    bad = not_finite(tensors)
    if bad is not None:
        raise InputError(f'{file} holds numbers that are NaN or infinite, in {bad}; give a whole checkpoint')
    meta = content.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    return PlainCheckpoint(str(file), tensors, _classes_of(meta), _network_of(meta))


def _classes_of(meta: Mapping[str, Any]) -> list[str] | None:
    """Names of a checkpoint's classes, as mmseg 1.x or 0.x writes them, or None."""
    dataset = meta.get('dataset_meta')
    classes = dataset.get('classes') if isinstance(dataset, Mapping) else meta.get('CLASSES')
    return list(map(str, classes)) if isinstance(classes, list | tuple) and classes else None


def _network_of(meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """The value of ``model`` in a checkpoint's config, a Python text, which is read and not run; or None."""
    text = meta.get('cfg')
    try:
        tree = ast.parse(text) if isinstance(text, str) else ast.Module([], [])
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == 'model':
                network = _literal(statement.value)
                return network if isinstance(network, dict) else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return None


def _literal(node: ast.expr) -> Any:
    """The value of an expression of plain values, lists, tuples, dicts and calls of ``dict`` by keywords.

    Raises:
        ValueError: it is made of anything else.
    """
    if isinstance(node, ast.Call):
        if ast.unparse(node.func) != 'dict' or node.args or any(keyword.arg is None for keyword in node.keywords):
            raise ValueError(f'{ast.unparse(node)} is a call')
        return {str(keyword.arg): _literal(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        items = zip(node.keys, node.values, strict=True)
        return {ast.literal_eval(key): _literal(value) for key, value in items if key is not None}
    if isinstance(node, ast.List):
        return [_literal(child) for child in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_literal(child) for child in node.elts)
    return ast.literal_eval(node)
