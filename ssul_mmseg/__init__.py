"""Class-incremental semantic segmentation for mmsegmentation.

Importing the package is cheap: its functions (docs/python_api.md) bring PyTorch and mmseg when they are first used.
Importing :mod:`ssul_mmseg.components` registers every component.
"""
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import load_model, predict, run
    from .errors import InputError
    from .new_class import add_class
    from .prediction import Prediction, Predictor

__version__ = '0.1.0'
_MODULES = {
    'InputError': 'errors',
    'Prediction': 'prediction',
    'Predictor': 'prediction',
    'add_class': 'new_class',
    'load_model': 'api',
    'predict': 'api',
    'run': 'api',
}
__all__ = [
    'InputError', 'Prediction', 'Predictor', '__version__', 'add_class', 'load_model', 'predict', 'run']


def __getattr__(name: str) -> Any:
    """Import the module of a function at its first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'.{_MODULES[name]}', __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
