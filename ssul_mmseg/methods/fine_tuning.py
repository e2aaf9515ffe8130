"""Fine-tuning, the lower bound, and joint training, the upper: plain training of the whole network."""
from mmseg.registry import MODELS

from ..models.segmentors import IncrementalSegmentor


@MODELS.register_module()
class FineTuning(IncrementalSegmentor):
    """Train the whole network on what each task labels; on a joint scenario this is joint training."""
