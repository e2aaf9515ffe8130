"""One file per method; none imports another but the SSUL that it extends."""
from .analytic import Analytic
from .ewc import EWC
from .fine_tuning import FineTuning
from .ilt import ILT
from .ipseg import IPSeg
from .lwf import LwF
from .lwf_mc import LwFMC
from .mib import MiB
from .plop import PLOP
from .ssul import SSUL

__all__ = ['EWC', 'ILT', 'PLOP', 'SSUL', 'Analytic', 'FineTuning', 'IPSeg', 'LwF', 'LwFMC', 'MiB']
