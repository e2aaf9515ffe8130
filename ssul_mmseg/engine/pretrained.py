"""Load pretrained weights; refuse a file that does not fit the part of the network whose config names it."""
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.model.weight_init import PretrainedInit
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import get_external_models
from torch import Tensor, nn

from ..errors import InputError
from ..work_dir.weights import forbid_unpickling, not_finite

PREFIXES = ('', 'module.', 'backbone.', 'module.backbone.')
"""What the names of a backbone's weights begin with in files of backbones, of DDP and of whole networks."""
WRAPPERS = ('state_dict', 'model')
"""Keys under which files hold their weights, beside other things."""
SCHEME = 'fitted://'
"""Prefix of the addresses under which modules find weights that this file has read already."""
SHOWN = 3

_fitted: dict[str, dict[str, Tensor]] = {}


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def load_fitted(filename: str, map_location: Any) -> dict[str, Tensor]:
    """Give a module the weights that are read and renamed for it."""
    return dict(_fitted[filename])


def init_weights(model: nn.Module, initialise: Callable[[], None], trusted: bool = False) -> None:
    """Initialise a network; every ``init_cfg`` of type 'Pretrained' in it gets weights that fit, or is refused.

    The modules load in their own way, so that those that resize position embeddings still do. But they get the weights
    under their own names, and are looked at afterwards: mmengine skips what does not fit.

    Args:
        model: the network; an ``init_cfg`` may hold ``partial=True`` for weights of which some deliberately lack.
        initialise: what initialises it.
        trusted: whether files may be unpickled.

    Raises:
        InputError: a file cannot be had or read, holds no weights or numbers that are NaN, or does not hold each
            tensor of its module in the right shape.
    """
    places = [_Place(f'model.{name}'.rstrip('.'), module, module.init_cfg) for name, module in model.named_modules()
              if any(map(_is_pretrained, _parts_of(getattr(module, 'init_cfg', None))))]
    with contextlib.nullcontext() if trusted else forbid_unpickling(), contextlib.ExitStack() as offers:
        for place in places:
            place.read(trusted)
            offers.enter_context(place.offer())
        try:
            initialise()
        except InputError:
            raise
        except Exception as error:  # a module may convert weights, which raises almost anything
            if not places:
                raise
            raise places[0].unreadable(error) from error
        for place in places:
            place.check()


def _parts_of(init_cfg: Any) -> list:
    """Parts of an ``init_cfg``, which may be one or several."""
    return list(init_cfg) if isinstance(init_cfg, list | tuple) else [init_cfg]


def _is_pretrained(part: Any) -> bool:
    """Whether a part of an ``init_cfg`` names a file."""
    return isinstance(part, Mapping) and part.get('type') in ('Pretrained', PretrainedInit)


def _without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, under their names without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


class _Place:
    """A module whose ``init_cfg`` names a file.

    Args:
        where: dotted key of the module in the config.
        module: the module.
        init_cfg: its ``init_cfg``.
    """

    def __init__(self, where: str, module: BaseModule, init_cfg: Any) -> None:
        self.where, self.module, self.init_cfg = where, module, init_cfg
        part = next(filter(_is_pretrained, _parts_of(init_cfg)))
        self.checkpoint = part.get('checkpoint')
        self.prefixes = PREFIXES if part.get('prefix') is None else (f'{part["prefix"].rstrip(".")}.', )
        self.partial = part.get('partial', False)
        self.file = f'the pretrained weights {_address(str(self.checkpoint))}'
        if type(self.partial) is not bool:
            raise InputError(f'{where}.init_cfg.partial is {self.partial!r}; it is True or False')

    def read(self, trusted: bool) -> None:
        """Read the file, and give its weights the names of the module's."""
        try:
            content = CheckpointLoader.load_checkpoint(self.checkpoint, map_location='cpu')
        except InputError:
            raise  # of what fetches the weights, such as a package that is not installed
        except Exception as error:  # a damaged file raises almost anything
            if isinstance(error, UnpicklingError) and not trusted:
                raise InputError(f'{self.file} are damaged, or hold more than tensors and are not loaded, because '
                                 'unpickling them could run code; if you trust who made them, add '
                                 '--trust-pickled-weights') from error
            raise self.unreadable(error) from error
        for wrapper in WRAPPERS:
            if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
                content = content[wrapper]
        items = content.items() if isinstance(content, Mapping) else ()
        tensors = {name: value for name, value in items if isinstance(name, str) and isinstance(value, Tensor)}
        if not tensors:
            raise InputError(f'{self.file} hold no tensor; set {self.where}.init_cfg.checkpoint to a file of weights, '
                             f'or {self.where}.init_cfg=None to start from scratch')
        bad = not_finite(tensors)
        if bad is not None:
            raise InputError(f'{self.file} hold numbers that are NaN or infinite, in {bad}; give whole ones')
        own = self.module.state_dict()
        # Counters and tables of indices are not learned: many files lack them, and their shape may be that of a window.
        self.before = {name: value.clone() for name, value in own.items() if value.is_floating_point()}
        # The prefix under which most names are those of the module.
        renamed = {prefix: _without_prefix(tensors, prefix) for prefix in self.prefixes}
        self.prefix = max(renamed, key=lambda prefix: len(renamed[prefix].keys() & self.before.keys()))
        state = renamed[self.prefix]
        self.state = {name: value for name, value in state.items()
                      if value.is_floating_point() or name not in own or value.shape == own[name].shape}
        self.example = next(iter(tensors))

    @contextlib.contextmanager
    def offer(self) -> Iterator[None]:
        """Let the module find the renamed weights where its ``init_cfg`` names the file."""
        address = f'{SCHEME}{self.where}'
        parts = [dict(type='Pretrained', checkpoint=address) if _is_pretrained(part) else part
                 for part in _parts_of(self.init_cfg)]
        _fitted[address] = self.state
        # Some backbones read attributes of their init_cfg, as mmengine's dicts have them.
        self.module.init_cfg = parts if isinstance(self.init_cfg, list | tuple) else type(self.init_cfg)(parts[0])
        try:
            yield
        finally:
            self.module.init_cfg = self.init_cfg
            del _fitted[address]

    def check(self) -> None:
        """Check which tensors the module has taken."""
        now = self.module.state_dict()
        missing = [name for name in self.before if not self._is_taken(name, now[name])]
        kind = type(self.module).__name__
        found = f'{len(self.before) - len(missing)} of the {len(self.before)} tensors of {kind}'
        if len(missing) == len(self.before) or (missing and not self.partial):
            raise InputError(
                f'{self.file} do not fit {self.where}: they give {found}; {", ".join(missing[:SHOWN])} and others are '
                f'missing or of another shape (the file has {self.example}, ...): give weights of this network under '
                f'mmseg\'s names, set {self.where}.init_cfg.prefix if theirs begin otherwise, or '
                f'{self.where}.init_cfg.partial=True to leave what is missing as it is drawn')
        renamed = f', where their names begin with {self.prefix}' if self.prefix else ''
        print_log(f'{self.file} give {found}{renamed}', logger='current')
        if missing:
            print_log(f'{self.file} give only {found}: {", ".join(missing[:SHOWN])} and others are left as they were '
                      'drawn', logger='current', level=logging.WARNING)

    def _is_taken(self, name: str, now: Tensor) -> bool:
        """Whether a tensor is that of the file, or was made of it by the module itself."""
        given = self.state.get(name)
        if given is None or given.shape == now.shape:
            return given is not None and torch.equal(given.to(now), now)
        # mmengine's BaseModule copies shapes that are equal; a module that resizes has a way of its own.
        return 'init_weights' in vars(type(self.module)) and not torch.equal(self.before[name], now)

    def unreadable(self, error: Exception) -> InputError:
        """Make the error for a file that cannot be loaded."""
        fault = shorten(str(error) or type(error).__name__, 300)
        return InputError(f'{self.file} cannot be loaded ({fault}); put the file somewhere and set '
                          f'{self.where}.init_cfg.checkpoint to its path, or set {self.where}.init_cfg=None to start '
                          'from scratch')


def _address(checkpoint: str) -> str:
    """Where mmengine fetches a file that is known by a short name."""
    scheme, _, name = checkpoint.partition('://')
    return get_external_models().get(name, checkpoint) if scheme in ('open-mmlab', 'openmmlab') else checkpoint
