"""IPSeg: a class counts for a pixel as far as the whole image shows it; SSUL's tasks on a frozen network (2025)."""
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..errors import InputError
from ..models.batch import TaskLoader
from ..models.one_pass import evaluating, own_groups, pass_over
from ..models.segmentors import Batch, OldTask
from ..scenario import BACKGROUND
from ..solver.cells import Cells, Joined, add_over_processes
from ..solver.newton import solve
from ..solver.replay import class_moments, stand_ins
from .ssul import SSUL

WEIGHS = ('odds', 'scores')
PREFIX = 'posterior.'
CERTAIN = 20.0
"""Bias of the posterior of a class of which the images taught nothing: it changes no score."""
PRESENT = 1000 / 513**2
"""Share of an image's pixels above which a class is in it: the published 1,000 pixels of a crop of 513 x 513."""


class ImageClassifier(nn.Module):
    """Logits of a task's classes from an image's pooled features: buffers, as they are solved and never trained.

    Args:
        inputs: number of pooled features.
        num_classes: number of classes.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, inputs: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer('weight', torch.zeros(num_classes, inputs))
        self.register_buffer('bias', torch.full((num_classes, ), CERTAIN))

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits (B, classes) of pooled features (B, inputs)."""
        return F.linear(pooled, self.weight, self.bias)


@MODELS.register_module()
class IPSeg(SSUL):
    r"""Image posterior (Yu, Fang, Zhao, Wei, "IPSeg", arXiv:2502.04870, 2025) on SSUL's frozen network.

    .. math:: \hat y_i = \arg\max_c \big( s_{ic} + \log a_c \big) \text{ or } \arg\max_c a_c \, \sigma(s_{ic}), \quad
              a_c = \max(f, \sigma(v_c^\top p + b_c))

    s are SSUL's logits, p the features' means and maxima over the image, f a floor: without one, an image-level miss
    would take a class away. Background and unknown have one constant a. What tasks learn apart has no common scale: a
    new class has never met the images of earlier tasks and is found in them. The posterior has: its negatives are draws
    from the Gaussian of all earlier tasks' p (:func:`~ssul_mmseg.solver.replay.draw_cells`), and the exemplars where
    there is a memory. It is a logistic regression, solved by Newton's method after each task; old classes' posteriors
    stay.

    Published: scores weighed, 0.9 for background; a pseudo-labelled class is in an image that shows more than 1,000
    pixels of it; an image branch of two layers of 4,096 units on pooled features of the backbone's last stage,
    trained by cross-entropy with exemplars as the only old images; learning rate 0.01, 50 epochs, batch 16; losses of
    all channels, of the task's own head and of the image weigh 0.5, 0.5 and 1. The heads are split into a permanent
    one, of background and unknown, and temporary ones.

    Paper and published code: where an ADE20K image has no saliency map, the code takes the ground truth, labels of
    later classes included; it fixes the batch of 16; unknown and background learn at a tenth of the rate. None of
    this is here.

    Here the image branch is linear, a task's own classes are in an image by the same rule, a memory is not needed,
    the floor ours, and by default the odds are weighed, against 0.5 for background: a linear posterior is less sure
    than the published one, and a score near 1 of an old class that is multiplied by 0.6 loses to any background. In
    task 0 and in all losses the method is SSUL, trained or solved.

    Args:
        weighs: what the posteriors multiply: 'odds' of the sigmoids, or the sigmoids themselves, 'scores' (published).
        background: posterior of background and unknown, in (0, 1]; 0.9 as published.
        floor: least posterior f of a class, in (0, 1].
        image_decay: ridge parameter of the regression on standardised p, positive.
        image_draws: draws that stand for the images of earlier tasks, at least 1.
        segmentor: the arguments of :class:`~ssul_mmseg.methods.ssul.SSUL`.

    Raises:
        InputError: a value is out of range, the trunk learns in later tasks, or the head trains a softmax.
    """

    def __init__(self, *, weighs: str = 'odds', background: float = 0.5, floor: float = 0.05,
                 image_decay: float = 10., image_draws: int = 1000, **segmentor: Any) -> None:
        super().__init__(**segmentor)
        if weighs not in WEIGHS:
            raise InputError(f'model.weighs is {weighs!r}; choose one of {", ".join(WEIGHS)}')
        for key, value in (('background', background), ('floor', floor)):
            if type(value) not in (int, float) or not 0 < value <= 1:
                raise InputError(f'model.{key} is {value!r}; it is a number above 0, at most 1')
        if type(image_decay) not in (int, float) or not 0 < image_decay < math.inf:
            raise InputError(f'model.image_decay is {image_decay!r}; it is a positive number, 10 by default')
        if type(image_draws) is not int or image_draws < 1:
            raise InputError(f'model.image_draws is {image_draws!r}; it is a number of draws, at least 1')
        if not self.freezes_later:
            raise InputError('IPSeg keeps means of features, which must not change; set model.freeze=True')
        head = self.decode_head
        if not head.independent_channels:
            raise InputError('IPSeg weighs sigmoids; set model.decode_head.loss_decode.type=SigmoidBCELoss')
        self.weighs, self.background, self.floor = weighs, float(background), float(floor)
        self.image_decay, self.image_draws = image_decay, image_draws
        inputs = 2 * head.feature_channels
        names = [*head.old_names, head.new_name]
        self.posterior = nn.ModuleDict({
            name: ImageClassifier(inputs, len(head.channels_of([name]))) for name in names})
        self._image_moments: Tensor | None = None  # of the images of all tasks so far

    def start_task(self, old: OldTask) -> None:
        """Start as SSUL does, with the old classes' posteriors; the new ones are learned after training."""
        if 'image_moments' not in old.state:
            raise InputError(f'the weights of task {self.task - 1} hold no means of images; train task '
                             f'{self.task - 1} with this config')
        self._image_moments = old.state['image_moments']
        new = f'{PREFIX}{self.decode_head.new_name}.'
        own = {key: value for key, value in self.state_dict().items() if key.startswith(new)}
        super().start_task(OldTask({**old.weights, **own}, old.state))

    def trunk_state(self) -> dict[str, Tensor]:
        """Without the posteriors, which new tasks bring: test images pass the trunk once for all tasks."""
        return {key: value for key, value in super().trunk_state().items() if not key.startswith(PREFIX)}

    def predicted_logits(self, features: Tensor) -> Tensor:
        """Logits of SSUL's odds or scores times the image's posteriors."""
        logits = super().predicted_logits(features)
        image = pooled(features)
        classes = torch.cat([classifier(image) for classifier in self.posterior.values()], dim=1).sigmoid()
        posterior = torch.full(logits.shape[:2], self.background, dtype=classes.dtype, device=logits.device)
        posterior[:, 1:1 + self.decode_head.num_seen] = classes.clamp(min=self.floor)
        return with_odds(logits, posterior) if self.weighs == 'odds' else with_scores(logits, posterior)

    def finish_task(self, loader: TaskLoader) -> dict[str, Tensor]:
        """Learn the posteriors of the task's classes by one pass over its images, and keep the images' moments."""
        state = super().finish_task(loader)
        dataset = loader.dataset
        with evaluating(self):
            own = list(self._images(loader, range(dataset.num_new)))
            exemplars = list(self._images(loader, range(dataset.num_new, len(dataset))))
        # A process without images gets them on the CPU.
        device = next(self.parameters()).device
        moments = class_moments(_of_one_channel(own), 1, 2 * self.decode_head.feature_channels)[0].to(device)
        if self._image_moments is not None:
            moments = moments + self._image_moments.to(moments)
        self._learn_posterior(Joined((own, 1.), (exemplars, 1.), (self._earlier_images(loader), 1.)), moments)
        return {**state, 'image_moments': moments.cpu()}

    @property
    def gathered(self) -> tuple[str, ...]:
        """The images' moments and the posteriors, beside what SSUL gathers."""
        return (*super().gathered, 'image_moments', PREFIX)

    def _images(self, loader: TaskLoader, positions: Iterable[int]) -> Iterator[Cells]:
        """This process's images as cells: pooled features, which of the task's classes are there, a weight of 1."""
        new = self.decode_head.channels_of([self.decode_head.new_name])
        for batch in pass_over(self, loader, own_groups(loader, positions)):
            yield Cells(pooled(batch.features), presence(batch, new), torch.ones_like(batch.features[:, 0, 0, 0]))

    def _earlier_images(self, loader: TaskLoader) -> list[Cells]:
        """Draws that stand for the images of earlier tasks, of which none shows a class of this one."""
        if self._image_moments is None:
            return []
        moments = {BACKGROUND: self._image_moments.to(next(self.parameters()).device)}
        # The classes of this task are numbered from 1 on: what is drawn as background is none of them.
        classes = range(1, 1 + len(self.decode_head.channels_of([self.decode_head.new_name])))
        return stand_ins(moments, classes, self.image_draws, loader.batch_sampler.seed, self.task)

    def _learn_posterior(self, blocks: Iterable[Cells], moments: Tensor) -> None:
        """Solve the regressions of the task's classes on features standardised by the moments of all tasks."""
        classifier = self.posterior[self.decode_head.new_name]
        assert isinstance(classifier, ImageClassifier)
        shown = torch.zeros(len(classifier.bias), dtype=torch.double, device=moments.device)
        total = torch.zeros(1, dtype=torch.double, device=moments.device)
        for cells in blocks:
            shown += (cells.weights @ cells.targets).double()
            total += cells.weights.sum()
        shown, total = add_over_processes(shown, total)
        # A class that all images show, or none, has no posterior to be learned.
        learned = [place for place, count in enumerate(shown.tolist()) if 0 < count < (1 - 1e-6) * total.item()]
        if not learned:
            return
        count = moments[-1, -1]
        mean = moments[:-1, -1] / count
        deviation = (moments.diagonal()[:-1] / count - mean**2).clamp(min=0).sqrt()
        gain = torch.where(deviation > 1e-6 * deviation.mean(), 1 / deviation, 0.)
        standard = [Cells(((cells.features - mean) * gain).float(), cells.targets[:, learned], cells.weights)
                    for cells in blocks]
        start = torch.zeros(len(learned), len(mean), device=moments.device)
        found = solve(standard, start, start[:, 0], [str(place) for place in learned], self.image_decay / total.item())
        weight = found.weight * gain
        classifier.weight[learned] = weight.float()
        classifier.bias[learned] = (found.bias - weight @ mean).float()


def pooled(features: Tensor) -> Tensor:
    """Means and maxima over the image of features (B, d, h, w): float32 (B, 2 d)."""
    features = features.float()
    return torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)


def presence(batch: Batch, channels: Iterable[int]) -> Tensor:
    """Which channels the targets of each image show on more than :data:`PRESENT` of its pixels: float32 (B, K)."""
    shares = [(batch.targets == channel).float().mean((1, 2)) for channel in channels]
    return (torch.stack(shares, dim=1) > PRESENT).float()


def with_odds(logits: Tensor, posterior: Tensor) -> Tensor:
    """Logits (B, C, h, w) whose odds are multiplied by the image's posteriors (B, C), in (0, 1]."""
    return logits + posterior.log()[:, :, None, None]


def with_scores(logits: Tensor, posterior: Tensor) -> Tensor:
    r"""Logits whose sigmoids are multiplied by the image's posteriors.

    .. math:: s' = s + \log a - \mathrm{softplus}(s + \log(1 - a)), \quad \sigma(s') = a \, \sigma(s)

    Args:
        logits: float (B, C, h, w).
        posterior: float (B, C), in (0, 1].

    Returns:
        float (B, C, h, w).
    """
    a = posterior[:, :, None, None]
    return logits + a.log() - F.softplus(logits + (1 - a).log())


def _of_one_channel(images: Iterable[Cells]) -> Iterator[Cells]:
    """The images without their classes."""
    return (Cells(cells.features, torch.ones_like(cells.targets[:, :1]), cells.weights) for cells in images)
