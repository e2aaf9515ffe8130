"""What SSUL costs here, against the plain formulation and against the least that its trunk costs."""
from .suite import NAMES, run_benchmarks

__all__ = ['NAMES', 'run_benchmarks']
