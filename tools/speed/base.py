"""Training speed of the base task, against the same network trained by plain mmseg."""
import torch
from mmseg.models.segmentors import EncoderDecoder

from ssul_mmseg.scenario import BACKGROUND, UNKNOWN

from .measure import Updater, Work, time_in_turns
from .networks import build_mmseg, build_ssul, random_batch, samples_of
from .settings import Options

NUM_CLASSES = 15
"""Base classes of VOC 15-1."""


def measure_base(options: Options) -> dict:
    """Images per second in the base task."""
    batch = random_batch(options)
    # The labels of a base task, without unknown, which softmax does not know: the same for all.
    labels = batch.labels.masked_fill(batch.labels == UNKNOWN, BACKGROUND).masked_fill(batch.new, NUM_CLASSES).long()
    samples = samples_of(labels)

    def training(model: EncoderDecoder, inputs: torch.Tensor, loss: str) -> Work:
        update = Updater(model.train(), options)
        return lambda: update(lambda: model.loss(inputs, samples)[loss])

    last = batch.inputs.contiguous(memory_format=torch.channels_last)
    seconds = time_in_turns({
        'ours': training(build_ssul(options, (NUM_CLASSES, )), batch.inputs, 'loss_bce'),
        'mmseg': training(build_mmseg(options, NUM_CLASSES + 1, False), batch.inputs, 'decode.loss_ce'),
        'mmseg_channels_last': training(build_mmseg(options, NUM_CLASSES + 1, True), last, 'decode.loss_ce'),
    }, options, 'base')
    median = {name: found['median'] for name, found in seconds.items()}
    return {
        'seconds_per_iteration': seconds,
        'images_per_second': {name: options.scale.batch / value for name, value in median.items()},
        'ratio_vs_mmseg': median['ours'] / median['mmseg'],
        'ratio_vs_mmseg_channels_last': median['ours'] / median['mmseg_channels_last'],
    }
