"""Heads, losses and segmentors."""
from .heads import IncrementalASPPHead
from .losses import SigmoidBCELoss, SoftmaxCELoss
from .segmentors import IncrementalSegmentor

__all__ = ['IncrementalASPPHead', 'IncrementalSegmentor', 'SigmoidBCELoss', 'SoftmaxCELoss']
