"""Read a config with its ``--cfg-options``; refuse misspelt options and options without effect."""
import difflib
import inspect
import math
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import fields
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import LogProcessor, Runner
from torch.utils.data import DataLoader

from .components import arguments_of, registered, remedy_for_unregistered
from .config_files import find
from .datasets.classes import class_ids, class_names, metainfo_of
from .errors import InputError
from .models.predicting import TEST_KEYS
from .scenario import Scenario
from .solver.newton import Newton

# Keys of a scenario's config beside those of mmengine's Runner.
OWN_KEYS = ('dataset_name', 'data_root', 'method', 'saliency', 'crop_size', 'test_size', 'scenario', 'memory',
            'incremental', 'solver', 'checkpoint', 'feature_cache', 'tta_model', 'tta_pipeline')
# Keys that mmengine's Runner reads from the whole config, beside its arguments.
RUNNER_KEYS = ('compile', 'model_wrapper_cfg', 'sync_bn', 'find_unused_parameters', 'activation_checkpointing',
               'efficient_conv_bn_eval')
READ_KEYS = sorted({*OWN_KEYS, *RUNNER_KEYS, *inspect.signature(Runner.__init__).parameters} - {'self', 'cfg'})
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
SHOWN = 3
"""How many suggestions a message shows."""
# Config groups whose keys are arguments of a known constructor although they have no ``type``.
LOADER = set(inspect.signature(DataLoader.__init__).parameters) - {'self'}
LOG_PROCESSOR = set(inspect.signature(LogProcessor.__init__).parameters) - {'self'}
OWN_PARTS = {
    'train_dataloader': LOADER,
    'test_dataloader': LOADER,
    'scenario': {field.name for field in fields(Scenario)},
    'memory': {'size', 'selection', 'labels'},
    'feature_cache': {'views', 'dtype', 'location', 'limit', 'test_folder'},
    'optim_wrapper': {'constructor', 'paramwise_cfg'},
    'randomness': {'seed', 'diff_rank_seed', 'deterministic'},
    'log_processor': LOG_PROCESSOR,
    'model.test_cfg': set(TEST_KEYS),
    'solver': {'type', *(field.name for field in fields(Newton))},
}
# Groups with free keys, such as names of layers; PyTorch and mmengine check these.
FREE_PARTS = ('optim_wrapper.clip_grad', 'optim_wrapper.paramwise_cfg')
# Keys that the tools or ``task_config`` overwrite in any case -> what to set instead (None: nothing, remove the key).
DECIDED = {
    r'(train_dataloader\.dataset\.|train_dataloader\.batch_sampler\.)?seed': 'randomness.seed, or --seed',
    r'launcher': '--launcher',
    r'experiment_name': '--work-dir',
    r'train_dataloader\.dataset\.setting': 'scenario.setting',
    r'train_dataloader\.dataset\.(exemplars|memory)': 'memory.size',
    r'train_dataloader\.dataset\.(exemplar|memory)_labels': 'memory.labels',
    r'train_dataloader\.dataset\.memory_args': 'memory.size, memory.selection',
    r'train_dataloader\.dataset\.pipeline\.\d+\.saliency': 'saliency',
    r'train_dataloader\.dataset\.pipeline\.\d+\.crop_size': 'crop_size',
    r'test_dataloader\.dataset\.pipeline\.\d+\.size': 'test_size',
    r'train_dataloader\.batch_sampler\.views': 'feature_cache.views',
    r'train_dataloader\.batch_sampler\.batch_size': 'train_dataloader.batch_size',
    r'train_dataloader\.batch_sampler\.sampler': None,
    r'(train|test)_cfg\.feature_cache(\..*)?': 'feature_cache',
    r'((train|test)_dataloader\.dataset|test_evaluator)\.scenario': 'scenario',
    r'((train|test)_dataloader\.(dataset|batch_sampler)|test_evaluator)\.task': '--tasks',
    r'(train|test)_dataloader\.dataset\.(index_cache|test_mode)': None,
    r'(train|test)_dataloader\.dataset\.quiet': '--quiet',
    r'(train|test)_dataloader\.sampler': None,
    r'model\.(decode|auxiliary)_head\.(\d+\.)?(classes_per_task|num_classes)': 'scenario.name',
    r'incremental\.(scenario|memory|method|dataset_name|data_root|work_dir|randomness|checkpoint)':
        "the key without 'incremental.', for all tasks",
}


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
    for key, _, _ in _values(cfg.to_dict()):
        _refuse_decided(key)
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
    entries = [*_values(cfg.to_dict())]
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


def _items(part: Any) -> list[tuple[str, Any]]:
    """Key and value of each entry of a group or a list, as a dotted key names them; a plain value has none."""
    if isinstance(part, Mapping):
        return [(str(key), value) for key, value in part.items()]
    if isinstance(part, list):
        return [(str(place), value) for place, value in enumerate(part)]
    return []


def _values(part: Any, path: str = '') -> Iterator[tuple[str, Any, Any]]:
    """Yield dotted key, value and annotation (None: unknown) of every entry of a nested config, groups included."""
    built = part.get('type') if isinstance(part, Mapping) else None
    known = arguments_of(built) if isinstance(built, str) else {}
    for name, child in _items(part):
        key = f'{path}.{name}' if path else name
        yield key, child, known.get(name)
        yield from _values(child, key)


def _remedy_for(key: str) -> str | None:
    """What to do instead of setting a key of :data:`DECIDED`; None for other keys."""
    for pattern, instead in DECIDED.items():
        if re.fullmatch(pattern, key) or re.fullmatch(pattern, key.removeprefix('incremental.')):
            return f'set {instead}' if instead else 'remove it'
    return None


def _refuse_decided(key: str) -> None:
    """Refuse a key whose value would be overwritten."""
    remedy = _remedy_for(key)
    if remedy:
        raise InputError(f'{key} is decided for each task, and a value of its own would have no effect; {remedy}')


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
    child = _child(part, path[0])
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
    _refuse_decided(key)
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
            raise InputError(_no_such_key(cfg, key, part, parts, depth))
        part = _child(part, name)
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


def _no_such_key(cfg: Config, key: str, part: Any, parts: Sequence[str], depth: int) -> str:
    """Say that a key does not exist, and suggest a key of that name deeper in the config, or one with a similar name.

    Args:
        cfg: the config.
        key: dotted key of the option.
        part: the deepest part of the config that the key reaches.
        parts: the key, cut at its dots.
        depth: place in ``parts`` of the name that ``part`` does not have.
    """
    name, above, below = parts[depth], parts[:depth], parts[depth + 1:]
    valid = valid_keys(part, above)
    places = ['.'.join([*place, *below]) for place in _places(part, above, name)]
    places += [f'incremental.{place} from task 1 on' for place in places
               if place.startswith(('train_cfg', 'optim_wrapper'))]
    # The top level has so many keys that any name resembles one of them: ask for more likeness there.
    near = difflib.get_close_matches(name, valid, 1, cutoff=0.4 if above else 0.7)
    if places:
        hint = f'did you mean {" or ".join(places[:SHOWN])}?'
    elif near:
        hint = f'did you mean {".".join([*above, near[0]])}?'
    else:
        hint = f'known: {", ".join(valid)}' if valid else 'it is a value'
    if not above and name in cfg:
        remedy = f'set {" and ".join(places)}' if places else 'set the values that the file makes of it'
        return f'option {key}: {name} is a variable of the config file, which nothing reads any more; {remedy}'
    where = f' in {".".join(above)}' if above else ''
    return f'option {key}: there is no {name!r}{where}; {hint}'


def _places(part: Any, path: Sequence[str], name: str) -> Iterator[list[str]]:
    """Yield the paths below a part of a config at which a key of a name is valid, set or not."""
    for key, child in _items(part):
        below = [*path, key]
        if below[0] not in READ_KEYS or below[0] == 'incremental' or not isinstance(child, Mapping | list):
            continue
        if name in valid_keys(child, below) and not _remedy_for('.'.join([*below, name])):
            yield [*below, name]
        yield from _places(child, below, name)


def valid_keys(part: Any, path: Iterable[str]) -> list[str]:
    """Keys that a part of a config may have: those that it has, and the arguments of the class that it builds.

    At the top level these are the keys that something reads.
    """
    path = list(path)
    if isinstance(part, list):
        return [str(i) for i in range(len(part))]
    keys = set(part) if isinstance(part, Mapping) else set()
    if not path:
        return READ_KEYS
    if path == ['incremental']:
        return valid_keys(part, [])
    keys |= OWN_PARTS.get('.'.join(path), set())
    if isinstance(part, Mapping) and isinstance(part.get('type'), str):
        keys |= {'type', *arguments_of(part['type'])}
        if part['type'] == 'Pretrained':
            keys.add('partial')  # engine.pretrained reads it, not mmengine's class
    elif part is None and '.'.join(path) not in OWN_PARTS:
        # The argument has its default None: which keys it takes is unknown until the user gives a type.
        keys.add('type')
    return sorted(keys)


def _child(part: Any, name: str) -> Any:
    """The part of a config that a key names; None if the config leaves that argument at its default."""
    if isinstance(part, list):
        return part[int(name)]
    return part.get(name) if isinstance(part, Mapping | Config) else None


def _check_type(key: str, value: Any) -> None:
    """Refuse the name of a class that nothing has registered."""
    # What solves a task is no component.
    if not key.endswith('.type') or key == 'solver.type' or not isinstance(value, str):
        return
    if registered(value) is None:
        raise InputError(f'option {key} is {value!r}, a class that nothing has registered; '
                         f'{remedy_for_unregistered(value)}')
