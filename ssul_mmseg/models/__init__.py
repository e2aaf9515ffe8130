"""A batch becomes features, logits and a loss."""
from .. import quiet  # noqa: F401 - before anything imports mmseg

# isort: split
from .efficientnet_lite import EfficientNetLite
from .heads import (
    IncrementalASPPHead,
    IncrementalDepthwiseSeparableASPPHead,
    IncrementalFCNHead,
    IncrementalHead,
    IncrementalSegformerHead,
    IncrementalUPerHead,
)
from .losses import SigmoidBCELoss, SoftmaxCELoss
from .norm import GlooSyncBN
from .segmentors import IncrementalSegmentor
from .tta import IncrementalTTAModel

__all__ = ['EfficientNetLite', 'GlooSyncBN', 'IncrementalASPPHead', 'IncrementalDepthwiseSeparableASPPHead',
           'IncrementalFCNHead', 'IncrementalHead', 'IncrementalSegformerHead', 'IncrementalSegmentor',
           'IncrementalTTAModel', 'IncrementalUPerHead', 'SigmoidBCELoss', 'SoftmaxCELoss']
