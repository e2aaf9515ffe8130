"""What a config may build by a name: importing this registers every component of the package in mmseg's registries.

Configs name this module as a custom import.
"""
import difflib
import inspect
from typing import Any

from mmengine.registry import Registry
from mmseg import registry as registries

from . import datasets, engine, methods, models
from .evaluation import metrics, open_set

__all__ = ['arguments_of', 'datasets', 'engine', 'methods', 'metrics', 'models', 'open_set', 'registered',
           'remedy_for_unregistered']


def registered(type_name: str) -> type | None:
    """The class, or function, that a config names as ``type``; None if nothing has registered it."""
    for registry in _registries():
        try:
            built = registry.get(type_name)
        except (RuntimeError, TypeError, ValueError):  # for a text, such as '', that cannot name a module either
            return None
        if built is not None:
            return built
    return None


def arguments_of(type_name: str) -> dict[str, Any]:
    """Arguments of a registered class with their annotations; its parents' too if it passes on ``**kwargs``."""
    built = registered(type_name)
    if built is None:
        return {}
    arguments: dict[str, Any] = {}
    ancestors: tuple[Any, ...] = inspect.getmro(built)
    for ancestor in ancestors:
        parameters = inspect.signature(ancestor.__init__).parameters.values()
        own = {p.name: p.annotation for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        arguments = own | arguments
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    arguments.pop('self', None)
    return arguments


def remedy_for_unregistered(type_name: str) -> str:
    """What to do about a name that nothing has registered: the most similar one that something has, if any is."""
    known = {name for registry in _registries() for place in (registry, registry.parent) if place
             for name in place.module_dict}
    near = difflib.get_close_matches(type_name, known, 1)
    return f'did you mean {near[0]}?' if near else 'name the module that registers it in custom_imports'


def _registries() -> list[Registry]:
    """All registries of mmseg."""
    return [registry for registry in vars(registries).values() if isinstance(registry, Registry)]
