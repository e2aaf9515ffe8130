"""One file per method; none imports another."""
from .analytic import Analytic
from .fine_tuning import FineTuning
from .ssul import SSUL

__all__ = ['SSUL', 'Analytic', 'FineTuning']
