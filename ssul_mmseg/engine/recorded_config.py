"""Read the config of a run from its work dir, where the run has recorded it."""
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import import_modules_from_strings

from ..errors import InputError
from ..work_dir.files import read_json
from ..work_dir.layout import RUN


def read_recorded_config(work_dir: str | Path) -> Config:
    """Read the config that a run has recorded, so that its networks can be built without the config's file.

    What may change when a run is resumed, such as the number of workers, is not recorded. A key that holds a dot, as
    names of layers in ``paramwise_cfg`` may, is read as nested keys.

    Args:
        work_dir: of a run.

    Returns:
        The config, with ``work_dir``; tuples are lists, as JSON has no tuples.

    Raises:
        InputError: the folder is no work dir of a run, or the record is torn or names modules that cannot be imported.
    """
    path = Path(work_dir) / RUN
    if not path.is_file():
        raise InputError(f'there is no {RUN} in {work_dir}; give the work dir of a run of ssul train')
    record = read_json(path)
    nested: dict[str, Any] = {}
    for key, value in record.items() if isinstance(record, dict) else ():
        _insert(nested, key.split('.'), value)
    content = _with_lists(nested)
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in ('scenario', 'model')):
        raise InputError(f'{path} does not hold the config of a run; give the work dir of a run of ssul train')
    cfg = Config(dict(content, work_dir=str(work_dir)), filename=str(path))
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    try:
        import_modules_from_strings(**cfg.get('custom_imports', dict(imports=[])))
    except (ImportError, TypeError) as error:
        raise InputError(f'{path} names modules in custom_imports that cannot be imported ({error}); install them, or '
                         'set PYTHONPATH to where they are') from error
    return cfg


def _insert(group: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a value at a path of nested keys; a plain value in its way gives way."""
    for name in path[:-1]:
        child = group.get(name)
        group[name] = child if isinstance(child, dict) else {}
        group = group[name]
    group[path[-1]] = value


def _with_lists(part: Any) -> Any:
    """Turn each group whose keys are 0, 1, 2 ... into a list, as the record writes lists."""
    if not isinstance(part, dict):
        return part
    children = {key: _with_lists(value) for key, value in part.items()}
    numbers = [str(place) for place in range(len(children))]
    return [children[number] for number in numbers] if children and list(children) == numbers else children
