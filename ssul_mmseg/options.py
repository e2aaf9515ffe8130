"""Read a config with its ``--cfg-options``; refuse misspelt options and options without effect."""
import math
import re
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from .components import registered, remedy_for_unregistered
from .config_files import find
from .config_keys import OWN_PARTS, entries_of, no_such_key, part_of, refuse_decided, valid_keys
from .datasets.classes import class_ids, class_names, metainfo_of
from .errors import InputError

NEEDED_KEYS = ('scenario', 'model', 'train_dataloader', 'test_dataloader', 'dataset_name', 'saliency', 'crop_size')
# Groups that a config may leave out.
OPTIONAL_PARTS = ('memory', 'feature_cache')
# Groups, and lists of groups, that no run can do without.
NEEDED_PARTS = (r'scenario|train_cfg|randomness|checkpoint|.*\.pipeline|'
                r'model(\.(data_preprocessor|backbone|decode_head))?|'
                r'(train|test)_dataloader(\.batch_sampler|\.dataset(\.dataset)?)?')
# Numbers that mmengine and PyTorch do not check: key -> (whether it is a whole number, the least value).
NUMBERS = {
    'train_dataloader.batch_size': (True, 1),
    'test_dataloader.batch_size': (True, 1),
    'train_dataloader.num_workers': (True, 0),
    'test_dataloader.num_workers': (True, 0),
    'train_cfg.max_epochs': (True, 1),
    'optim_wrapper.optimizer.lr': (False, 0),
    'optim_wrapper.optimizer.momentum': (False, 0),
    'optim_wrapper.optimizer.weight_decay': (False, 0),
}
# Groups with free keys, such as names of layers; PyTorch and mmengine check these.
FREE_PARTS = ('optim_wrapper.clip_grad', 'optim_wrapper.paramwise_cfg')


def read_config(path: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config and apply options to it.

    Args:
        path: the config file, or the name of one of the package's, see :func:`ssul_mmseg.config_files.find`.
        options: dotted key to value, as from ``--cfg-options``.

    Raises:
        InputError: there is no such config, it is no config of a scenario, an option does not exist, or a value has no
            effect or is of the wrong type.
    """
    path = str(find(path))
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is a program and may raise anything
        raise InputError(f'config {path} cannot be read: {error}') from error
    scope = cfg.get('default_scope', 'mmseg')
    init_default_scope(scope)
    _forget_scope(cfg, scope)
    missing = [key for key in NEEDED_KEYS if key not in cfg]
    if missing or 'name' not in cfg.scenario:
        raise InputError(f'config {path} is not of a scenario: {(missing or ["scenario.name"])[0]} is missing; '
                         'start from one of ssul configs')
    set_options(cfg, options or {})
    for key, _, _ in entries_of(cfg.to_dict()):
        refuse_decided(key)
    _resolve_order(cfg)
    return cfg


def _resolve_order(cfg: Config) -> None:
    """Replace class names in ``scenario.order`` by ids, so that both spellings give the same run."""
    order = cfg.scenario.get('order')
    if not isinstance(order, list | tuple) or not any(isinstance(entry, str) for entry in order):
        return
    dataset = cfg.train_dataloader.get('dataset', {}).get('dataset') or {}
    metainfo = metainfo_of(dataset) if 'type' in dataset else {}
    if 'classes' not in metainfo:
        raise InputError('scenario.order names classes, but train_dataloader.dataset.dataset does not say what its '
                         'classes are called; set metainfo.classes there, or give ids')
    cfg.scenario.order = class_ids(order, class_names(metainfo, dataset['type']))


def _forget_scope(part: Any, scope: str) -> None:
    """Remove ``_scope_``, which mmengine adds to all groups inherited from ``mmseg::...``, where it names the default.

    There it changes nothing, except that mmcv would pass the one of a ``norm_cfg`` to the layer, which refuses it.
    """
    if isinstance(part, MutableMapping) and part.get('_scope_') == scope:
        del part['_scope_']
    if isinstance(part, Mapping | Config):
        part = list(part.values())
    for child in part if isinstance(part, list | tuple) else ():
        _forget_scope(child, scope)


def _check_values(cfg: Config) -> None:
    """Refuse values of a wrong type or range where no other code would report them in one sentence."""
    for key in ('method', 'dataset_name'):
        name = cfg.get(key, cfg.model.type)
        if not isinstance(name, str) or not name:
            raise InputError(f'{key} is {name!r}; it is a name for tables, such as {key}=mine')
    entries = [*entries_of(cfg.to_dict())]
    for key, value, annotation in entries:
        if annotation in (bool, 'bool') and type(value) is not bool:
            raise InputError(f'{key} is {value!r}; it is True or False')
    values = {key: value for key, value, _ in entries}
    for key, (whole, least) in NUMBERS.items():
        for place in (key, f'incremental.{key}'):
            value = values.get(place, least)
            # type(), as True is an int to isinstance().
            allowed = (int, ) if whole else (int, float)
            if type(value) not in allowed or not least <= value < math.inf:
                kind = 'whole number' if whole else 'number'
                raise InputError(f'{place} is {value!r}; it is a {kind} of at least {least}')


def set_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Change values of a config.

    Args:
        cfg: the config.
        options: dotted key to value.

    Raises:
        InputError: an option does not exist, or a value of the config is out of range then.
    """
    for key, value in options.items():
        check_option(cfg, key, value)
        _set(cfg, key.split('.'), value)
    _check_values(cfg)


def _set(part: Any, path: Sequence[str], value: Any) -> None:
    """Set a value, or each value of a dict; mmengine's own merging fails at a None and in lists of plain values."""
    name = int(path[0]) if isinstance(part, list) else path[0]
    child = part_of(part, path[0])
    if len(path) > 1:
        if child is None:
            part[name] = ConfigDict()
        _set(part[name], path[1:], value)
    elif isinstance(value, dict) and isinstance(child, dict):
        for key, inner in value.items():
            _set(child, [key], inner)
    else:
        part[name] = value


def check_option(cfg: Config, key: str, value: Any) -> None:
    """Refuse an option whose key does not exist.

    Args:
        cfg: the config that it changes.
        key: dotted key.
        value: its value; the keys of a dict are checked too.
    """
    refuse_decided(key)
    given, part = key, cfg.to_dict()
    # The group 'incremental' holds values that replace the config's own from task 1 on.
    if key.startswith('incremental.'):
        key = key.removeprefix('incremental.')
        part = Config(part)
        part.merge_from_dict(cfg.get('incremental') or {})
        part = part.to_dict()
    parts = key.split('.')
    if key.startswith(FREE_PARTS):
        return
    for depth, name in enumerate(parts):
        if name not in valid_keys(part, parts[:depth]):
            raise InputError(no_such_key(cfg, key, part, parts, depth))
        part = part_of(part, name)
    _check_type(key, value)
    group = isinstance(part, dict) or key in OWN_PARTS or key == 'incremental'
    _check_group(given, part, group, value, valid_keys(part, parts))
    if group and value is not None:
        for name, child in value.items():
            check_option(cfg, f'{given}.{name}', child)


def _check_group(key: str, part: Any, group: bool, value: Any, keys: list[str]) -> None:
    """Refuse a plain value for a group or a list of groups, a group for a plain value, and None for what runs need.

    Args:
        key: dotted key.
        part: what the config has there.
        group: whether a group belongs there.
        value: the option's value.
        keys: what the group may hold.
    """
    groups = bool(part) and _is_list_of_groups(part)
    plain_key = key.removeprefix('incremental.')
    if value is False and plain_key in OPTIONAL_PARTS:
        raise InputError(f'option {key} is a group of values, not False; to do without it, set {key}=None')
    needed = re.fullmatch(NEEDED_PARTS, plain_key) or key.split('.')[-1].isdigit()
    fits = _is_list_of_groups(value) and bool(value or not needed) if groups else isinstance(value, dict)
    if (group or groups) and not fits and (value is not None or needed):
        kind = 'list of groups' if groups else 'group'
        raise InputError(f'option {key} is a {kind} of values, not {value!r}; set one of them, such as '
                         f'{key}.{keys[0]}=...')
    if not group and isinstance(value, dict) and part is not None:
        raise InputError(f'option {key} is a value such as {part!r}, not a group of values')


def _is_list_of_groups(part: Any) -> bool:
    """Whether a part of a config is a list, such as a pipeline, of groups, such as transforms."""
    return isinstance(part, list | tuple) and all(isinstance(entry, dict) for entry in part)


def _check_type(key: str, value: Any) -> None:
    """Refuse the name of a class that nothing has registered."""
    # What solves a task is no component.
    if not key.endswith('.type') or key == 'solver.type' or not isinstance(value, str):
        return
    if registered(value) is None:
        raise InputError(f'option {key} is {value!r}, a class that nothing has registered; '
                         f'{remedy_for_unregistered(value)}')
