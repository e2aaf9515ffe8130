"""SSUL and SSUL-M: unknown class, frozen network, pseudo-labels, weight transfer (NeurIPS 2021)."""
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..errors import InputError
from ..models.batch import TaskLoader
from ..models.old_model import OldModel
from ..models.one_pass import evaluating
from ..models.segmentors import Batch, IncrementalSegmentor, OldTask
from ..models.upsampling import upsampled_pseudo_labels, upsampled_softmax_pseudo_labels
from ..scenario import BACKGROUND, UNKNOWN
from ..solver.cells import Cells, Columns, pixels
from ..solver.newton import Newton
from ..solver.newton import solve as solve_newton
from ..solver.replay import class_moments, stand_ins, weighed_alike
from ..solver.task_cells import TaskImages

NEVER = -20.0
"""Bias of a solved filter of which no pixel is a positive: a score of 2e-9."""
WEIGHT_TRANSFER = ('unknown', 'background', 'random')


@MODELS.register_module()
class SSUL(IncrementalSegmentor):
    """SSUL; with an exemplar memory in the config it is SSUL-M.

    Args:
        freeze: from task 1 on, learn only background, unknown and the new classes (section 3.4).
        tau: confidence above which the old model's prediction becomes a label (Eq. 1), in (0, 1); None: no
            pseudo-labels.
        weight_transfer: where the new classes' filters start from: 'unknown' (the paper), 'background' or 'random'
            (Table 4).
        draws: of a solved task, about how many cells are drawn from the means and covariances of background, whose
            positives they are, and of old classes; all are negatives of the new ones (``solver.replay``). 0: none.
        segmentor: the arguments of :class:`.IncrementalSegmentor`.

    Raises:
        InputError: ``tau`` is no probability, or ``weight_transfer`` is none of the three, or asks for an unknown
            channel that the head lacks, or ``draws`` is no whole number.
    """

    def __init__(self,
                 *,
                 freeze: bool = True,
                 tau: float | None = 0.7,
                 weight_transfer: str = 'unknown',
                 draws: int = 0,
                 **segmentor: Any) -> None:
        super().__init__(**segmentor)
        if tau is not None and (type(tau) not in (int, float) or not 0 < tau < 1):
            raise InputError(f'model.tau is {tau!r}; it is a probability between 0 and 1, 0.7 in the paper')
        if weight_transfer not in WEIGHT_TRANSFER:
            raise InputError(
                f'model.weight_transfer is {weight_transfer!r}; choose one of {", ".join(WEIGHT_TRANSFER)}')
        if weight_transfer == 'unknown' and not self.decode_head.has_unknown:
            raise InputError("model.weight_transfer is 'unknown', which a head without unknown does not have; set "
                             'model.weight_transfer=background or random, or model.decode_head.unknown=True')
        if type(draws) is not int or draws < 0:
            raise InputError(f'model.draws is {draws!r}; it is a number of cells, or 0 for none')
        self.freezes_later = freeze
        self.freezes = freeze and self.task > 0
        self.tau = tau
        self.weight_transfer = weight_transfer
        self.draws = draws
        self._moments: Tensor | None = None  # of background and of all classes so far, on the CPU

    @property
    def trunk_fixed(self) -> bool:
        """Whether the trunk is frozen from task 1 on."""
        return self.freezes_later

    def frozen_modules(self) -> list[nn.Module]:
        """From task 1 on: the trunk, the old classes' classifiers, and the BatchNorm of those that learn.

        The authors' ``--bn_freeze`` holds statistics, scale and shift of every BatchNorm still; the paper's classifiers
        have none.
        """
        if not self.freezes:
            return super().frozen_modules()
        head = self.decode_head
        old = [head.classifiers[name] for name in head.old_names]
        return [*self.trunk_modules(), *self.heads[1:], *old, *head.classifier_norms()]

    def start_task(self, old: OldTask) -> None:
        """Take over the old weights, keep what makes the old model, then transfer weights to the new classes."""
        super().start_task(old)
        if self.draws:
            if 'moments' not in old.state:
                raise InputError(f'model.draws is {self.draws}, but task {self.task - 1} was learned without; train '
                                 f'task {self.task - 1} with model.draws={self.draws}')
            self._moments = old.state['moments']
        if self.tau is not None:
            self.old_model = OldModel(self)
        self.decode_head.transfer_weights(None if self.weight_transfer == 'random' else self.weight_transfer)

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """Eq. 1: the labels, and where they show no class, the old model's confident predictions of old classes."""
        target = super().targets(batch)
        if self.task == 0 or self.old_model is None or self.tau is None:
            return target
        head = self.decode_head
        pseudo_labels = upsampled_pseudo_labels if head.independent_channels else upsampled_softmax_pseudo_labels
        logits = batch.old['logits'] if batch.old else self.old_model.logits(batch)
        pseudo = pseudo_labels(logits.float(), head.num_old, batch.labels.shape[1:], self.tau, head.align_corners)
        unlabelled = (batch.labels == BACKGROUND) | (batch.labels == UNKNOWN)
        return torch.where(unlabelled & (pseudo > 0), pseudo, target)

    def learning_classifiers(self) -> Sequence[str]:
        """Only those with a gradient, where the loss treats channels one by one: the same update for less."""
        head = self.decode_head
        if self.freezes and head.independent_channels:
            return [name for name in ('background', head.new_name, 'unknown') if name in head.names]
        return super().learning_classifiers()

    def check_loop(self, solver: bool) -> None:
        """Refuse what is no convex problem, and draws where none is solved.

        Raises:
            InputError: the trunk learns, a classifier is more than a filter, or the loss couples the channels; or there
                are ``draws``, but no solver.
        """
        head = self.decode_head
        if not solver:
            if self.draws:
                raise InputError(f'model.draws is {self.draws}, but tasks are trained; set incremental.solver.type='
                                 'Newton, or model.draws=0')
            return
        faults = {
            'the trunk learns in every task': not self.freezes and 'model.freeze=True',
            'its classifiers are not linear': head.classifier != 'linear' and 'model.decode_head.classifier=linear',
            'its loss does not judge each channel alone': not head.independent_channels and
            'model.decode_head.loss_decode.type=SigmoidBCELoss',
        }
        for fault, remedy in faults.items():
            if remedy:
                raise InputError(f'incremental.solver is set, but {fault}; set {remedy}, or remove the solver')

    @torch.no_grad()
    def solve(self, images: TaskImages, solver: Newton) -> dict[str, Any]:
        """Minimise the loss over cells of background, unknown and the new classes, see ``solver.newton.solve``."""
        head, names = self.decode_head, self.learning_classifiers()
        own = images.cells(names, solver.views, kept=True)
        channels = head.channels_of(names)
        # As in a batch of SSUL-M, what stands for earlier tasks weighs as much as the task's own cells.
        others: list[Iterable[Cells]] = []
        if images.loader.dataset.num_exemplars:
            others.append(images.cells(names, solver.views, exemplars=True, kept=True))
        if self.draws and self._moments is not None:
            moments = dict(enumerate(self._moments.to(next(self.parameters()).device)))
            seed = images.loader.batch_sampler.seed
            others.append(stand_ins(moments, channels, self.draws, seed, self.task))
        blocks = weighed_alike(own, *others)
        weight = torch.cat([head.filters(name).weight.flatten(1) for name in names])
        bias = torch.cat([head.biases(name) for name in names])
        # Background and unknown may have no pixel, as without saliency maps: their minimum lies at infinity.
        shown = [*pixels(blocks, len(channels))]
        learning = [place for place, channel in enumerate(channels)
                    if shown[place] > 0 or BACKGROUND < channel <= head.num_seen]
        names_of = [*images.loader.dataset.metainfo['classes'][:1 + head.num_seen], 'unknown']
        found = solve_newton(
            Columns(blocks, learning), weight[learning], bias[learning],
            [names_of[channels[place]] for place in learning],
            solver.decay, solver.tolerance, solver.max_iterations)
        if not found.converged:
            print_log(f'the solver stopped after {solver.max_iterations} steps at a gradient norm of '
                      f'{found.gradient_norm.max():.1e}, above its tolerance; a larger incremental.solver.decay or '
                      'max_iterations would help', logger='current', level=logging.WARNING)
        weight, bias = torch.zeros_like(weight), torch.full_like(bias, NEVER)
        weight[learning], bias[learning] = found.weight.to(weight), found.bias.to(bias)
        sizes = [len(head.biases(name)) for name in names]
        for name, part, offset in zip(names, weight.split(sizes), bias.split(sizes), strict=True):
            head.filters(name).weight.copy_(part.view_as(head.filters(name).weight))
            head.biases(name).copy_(offset)
        if self.draws:
            self._add_moments(class_moments(own, len(channels), head.feature_channels))
        return dict(steps=found.iterations.max().item(), loss=found.loss.sum().item(),
                    gradient_norm=found.gradient_norm.max().item())

    @property
    def gathered(self) -> tuple[str, ...]:
        """With ``draws``, the moments."""
        return ('moments', ) if self.draws else ()

    def _add_moments(self, moments: Tensor) -> None:
        """Add those of the columns [background, the task's classes, (unknown)]: background grows, classes follow."""
        own = moments[:1 + self.decode_head.num_seen - self.decode_head.num_old].cpu()  # beside what a file has kept
        if self._moments is not None:
            own = torch.cat([self._moments[:1] + own[:1], self._moments[1:], own[1:]])
        self._moments = own

    def finish_task(self, loader: TaskLoader) -> dict[str, Tensor]:
        """With ``draws``, count, mean and covariance of the cells of background and of every class so far."""
        if not self.draws:
            return super().finish_task(loader)
        if self.task == 0:
            names = ['background', self.decode_head.new_name]
            with evaluating(self):
                cells = TaskImages(self, loader).cells(names)
                head = self.decode_head
                self._add_moments(class_moments(cells, 1 + head.num_seen, head.feature_channels))
        assert self._moments is not None  # of this task at least
        return dict(moments=self._moments)
