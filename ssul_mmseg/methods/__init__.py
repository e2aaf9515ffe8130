"""One file per method; none imports another."""
from .ewc import EWC
from .fine_tuning import FineTuning
from .mib import MiB
from .ssul import SSUL

__all__ = ['EWC', 'SSUL', 'FineTuning', 'MiB']
