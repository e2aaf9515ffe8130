"""Heads, losses, normalisation and segmentors."""
from .. import quiet  # noqa: F401 - before anything imports mmseg

# isort: split
from .heads import IncrementalASPPHead
from .losses import SigmoidBCELoss, SoftmaxCELoss
from .norm import GlooSyncBN
from .segmentors import IncrementalSegmentor

__all__ = ['GlooSyncBN', 'IncrementalASPPHead', 'IncrementalSegmentor', 'SigmoidBCELoss', 'SoftmaxCELoss']
