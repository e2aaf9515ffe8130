"""Convex problems of a task whose trunk is frozen, solved instead of descended."""
from .cells import Cells, cells_of, soft_targets
from .newton import Solution, solve

__all__ = ['Cells', 'Solution', 'cells_of', 'soft_targets', 'solve']
