"""One file per method; none imports another."""
from .ewc import EWC
from .fine_tuning import FineTuning
from .ilt import ILT
from .lwf import LwF
from .lwf_mc import LwFMC
from .mib import MiB
from .ssul import SSUL

__all__ = ['EWC', 'ILT', 'SSUL', 'FineTuning', 'LwF', 'LwFMC', 'MiB']
