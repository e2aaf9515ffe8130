"""Networks with random weights but realistic scores, and batches for them."""
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssul_mmseg.errors import InputError
from ssul_mmseg.methods.analytic import Analytic
from ssul_mmseg.methods.ssul import SSUL
from ssul_mmseg.models.segmentors import IncrementalSegmentor, OldTask
from ssul_mmseg.scenario import BACKGROUND, IGNORE, UNKNOWN

from .settings import Options

SPREAD = 2.0
"""Standard deviation of a class's logits over the positions of an image."""
MARGIN = 1.0
"""How far the largest logit of a class lies from the threshold: well beyond the rounding of mixed precision."""
CALIBRATION = 65
"""Side of the images from which BatchNorm takes its statistics."""


@dataclass(frozen=True)
class Batch:
    """A batch of a task that is not the first.

    New classes are a mask of their own: an 8-bit label could not name the 1001st class.

    Args:
        inputs: float (B, 3, H, W), normalised images.
        labels: uint8 (B, H, W): BACKGROUND, UNKNOWN or IGNORE.
        new: bool (B, H, W), pixels of the task's first class.
    """

    inputs: Tensor
    labels: Tensor
    new: Tensor


def random_batch(options: Options, seed: int = 0) -> Batch:
    """Noise with labels in rectangles: half background, a quarter unknown, the rest new class and ignored."""
    scale, generator = options.scale, torch.Generator().manual_seed(seed)
    shape = scale.batch, scale.crop, scale.crop
    kind = torch.multinomial(torch.tensor([.5, .25, .1, .15]), scale.batch * 64, replacement=True, generator=generator)
    kind = nn.functional.interpolate(kind.view(-1, 1, 8, 8).float(), shape[1:]).squeeze(1).long()
    labels = torch.tensor([BACKGROUND, UNKNOWN, IGNORE, BACKGROUND], dtype=torch.uint8)[kind]
    inputs = torch.randn(scale.batch, 3, *shape[1:], generator=generator)
    return Batch(inputs.to(options.device), labels.to(options.device), (kind == 3).to(options.device))


def samples_of(labels: Tensor) -> list[SegDataSample]:
    """Data samples with the ground truth ``labels`` (B, H, W)."""
    return [SegDataSample(gt_sem_seg=PixelData(data=label.unsqueeze(0))) for label in labels]


def model_config(options: Options) -> dict:
    """The model of the scale's config, of random weights, for one process."""
    path = options.configs / '_base_' / 'models' / f'{options.scale.network}.py'
    if not path.is_file():
        raise InputError(f'there is no config {path}; run the benchmark from a checkout of the project')
    init_default_scope('mmseg')
    model = Config.fromfile(path).model.to_dict()
    # Noise is normalised as it is.
    model['data_preprocessor'] = dict(type='SegDataPreProcessor', size=(options.scale.crop, ) * 2)
    model['backbone'].update(init_cfg=None, norm_cfg=dict(type='BN'))
    model['decode_head'].update(norm_cfg=dict(type='BN'))
    narrow(model, options)
    return model


def narrow(model: dict, options: Options) -> None:
    """Make the network of a model's config as narrow as the scale says."""
    if options.scale.base_channels is not None:
        model['backbone'].update(base_channels=options.scale.base_channels)
        model['decode_head'].update(in_channels=8 * options.scale.base_channels, channels=8)


def build_ssul(options: Options, classes_per_task: Sequence[int], classifier: str = 'linear',
               channels_last: bool = True) -> SSUL:
    """An SSUL network for the last of some tasks, with random weights, frozen as a runner does."""
    config = dict(model_config(options), type='SSUL', channels_last=channels_last)
    config['decode_head'].update(classes_per_task=tuple(classes_per_task), classifier=classifier)
    return cast(SSUL, build_frozen(options, config))


def build_analytic(options: Options, classes_per_task: Sequence[int]) -> Analytic:
    """An Analytic network for the last of some tasks, likewise."""
    config = dict(model_config(options), type='Analytic')
    config['decode_head'].update(classes_per_task=tuple(classes_per_task))
    return cast(Analytic, build_frozen(options, config))


def build_frozen(options: Options, config: dict) -> IncrementalSegmentor:
    """The network of a model's config, with random weights that give sane numbers, frozen as a runner does."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(config).to(options.device)
    model.freeze()
    return _calibrate(model)


def build_mmseg(options: Options, num_classes: int, channels_last: bool) -> EncoderDecoder:
    """The same network as plain mmseg builds and trains it, with softmax cross-entropy."""
    config = model_config(options)
    config['decode_head'].pop('skip', None)  # mmseg's head has none; it costs what wider filters cost
    config['decode_head'].update(type='ASPPHead', num_classes=num_classes, align_corners=False,
                                 loss_decode=dict(type='CrossEntropyLoss'))
    torch.manual_seed(0)
    model = MODELS.build(dict(config, type='EncoderDecoder', test_cfg=dict(mode='whole')))
    return model.to(options.device, memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def start_ssul(options: Options, classes_per_task: Sequence[int], survivors: int, batch: Batch) -> SSUL:
    """An SSUL network at the start of a task, whose old model has realistic scores on a batch.

    Args:
        options: of the run.
        classes_per_task: of all tasks so far, at least two.
        survivors: old classes that exceed tau in each image of the batch.
        batch: the batch.
    """
    old = build_ssul(options, classes_per_task[:-1])
    set_scores(old, old.trunk(batch.inputs), survivors)
    model = build_ssul(options, classes_per_task)
    model.start_task(OldTask(old.state_dict()))
    return model.train()


@torch.no_grad()
def count_survivors(model: SSUL, batch: Batch) -> list[int]:
    """How many old classes exceed tau somewhere in each image."""
    assert model.old_model is not None and model.tau is not None  # the task is not the first
    num_old = model.decode_head.num_old
    logits = model.old_model.logits(model.batch_of(batch.inputs, batch.labels))[:, 1:num_old + 1]
    return (logits.amax(dim=(2, 3)).sigmoid() > model.tau).sum(1).tolist()


@torch.no_grad()
def _calibrate(model: IncrementalSegmentor) -> IncrementalSegmentor:
    """Give BatchNorm the statistics of random images; without them the numbers of a deep network run away."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train().momentum = None
    images = torch.randn(2, 3, CALIBRATION, CALIBRATION, device=next(model.parameters()).device)
    model.decode_head.classify(model.trunk(images))
    for norm, value in zip(norms, momentum, strict=True):
        norm.momentum = value
    return model.eval()


@torch.no_grad()
def set_scores(model: SSUL, features: Tensor, survivors: int) -> None:
    """Spread the scores of linear classifiers; the first ``survivors`` classes exceed tau in every image, no other."""
    head = model.decode_head
    assert model.tau is not None  # SSUL's default
    bound = math.log(model.tau / (1 - model.tau))
    first = 0
    for name in head.names:
        filters = cast(nn.Conv2d, cast(nn.Sequential, head.classifiers[name])[-1])
        assert filters.bias is not None
        filters.bias.zero_()
        logits = head.classify(features, [name])
        factor = SPREAD / logits.std(dim=(0, 2, 3)).clamp(min=1e-6)
        filters.weight.mul_(factor[:, None, None, None])
        logits *= factor[:, None, None]
        if not name.startswith('task_'):
            filters.bias.copy_(-logits.mean(dim=(0, 2, 3)))
            continue
        highest = logits.amax(dim=(2, 3))
        survives = torch.arange(first, first + highest.shape[1], device=highest.device) < survivors
        filters.bias.copy_(torch.where(survives, bound + MARGIN - highest.amin(0), bound - MARGIN - highest.amax(0)))
        first += highest.shape[1]
