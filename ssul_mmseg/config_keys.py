"""Which keys a config may have, which of them the program decides, and which one a misspelt key was meant to be."""
import difflib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from mmengine.config import Config
from mmengine.runner import LogProcessor, Runner
from torch.utils.data import DataLoader

from .components import arguments_of
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


def _items(part: Any) -> list[tuple[str, Any]]:
    """Key and value of each entry of a group or a list, as a dotted key names them; a plain value has none."""
    if isinstance(part, Mapping):
        return [(str(key), value) for key, value in part.items()]
    if isinstance(part, list):
        return [(str(place), value) for place, value in enumerate(part)]
    return []


def entries_of(part: Any, path: str = '') -> Iterator[tuple[str, Any, Any]]:
    """Yield dotted key, value and annotation (None: unknown) of every entry of a nested config, groups included."""
    built = part.get('type') if isinstance(part, Mapping) else None
    known = arguments_of(built) if isinstance(built, str) else {}
    for name, child in _items(part):
        key = f'{path}.{name}' if path else name
        yield key, child, known.get(name)
        yield from entries_of(child, key)


def _remedy_for(key: str) -> str | None:
    """What to do instead of setting a key of :data:`DECIDED`; None for other keys."""
    for pattern, instead in DECIDED.items():
        if re.fullmatch(pattern, key) or re.fullmatch(pattern, key.removeprefix('incremental.')):
            return f'set {instead}' if instead else 'remove it'
    return None


def refuse_decided(key: str) -> None:
    """Refuse a key whose value would be overwritten."""
    remedy = _remedy_for(key)
    if remedy:
        raise InputError(f'{key} is decided for each task, and a value of its own would have no effect; {remedy}')


def no_such_key(cfg: Config, key: str, part: Any, parts: Sequence[str], depth: int) -> str:
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


def part_of(part: Any, name: str) -> Any:
    """The part of a config that a key names; None if the config leaves that argument at its default."""
    if isinstance(part, list):
        return part[int(name)]
    return part.get(name) if isinstance(part, Mapping | Config) else None
