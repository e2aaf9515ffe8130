"""Heads, losses, normalisation and segmentors."""
from .efficientnet_lite import EfficientNetLite
from .heads import IncrementalASPPHead
from .losses import SigmoidBCELoss, SoftmaxCELoss
from .norm import GlooSyncBN
from .segmentors import IncrementalSegmentor

__all__ = ['EfficientNetLite', 'GlooSyncBN', 'IncrementalASPPHead', 'IncrementalSegmentor', 'SigmoidBCELoss',
           'SoftmaxCELoss']
