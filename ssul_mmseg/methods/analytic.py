"""Analytic: after the base task a weighted ridge regression in closed form, one pass over each task's images."""
import math
from collections.abc import Mapping
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..errors import InputError
from ..models.batch import TaskLoader
from ..models.heads import BASE
from ..models.losses import IGNORED
from ..models.one_pass import evaluating
from ..models.segmentors import Batch, IncrementalSegmentor, OldTask
from ..scenario import UNKNOWN
from ..solver.ridge import FeatureMap, classifier, fold, learn, sums, with_exemplars
from ..solver.task_cells import TaskImages

PREFIX = 'decode_head.classifiers.'


@MODELS.register_module()
class Analytic(IncrementalSegmentor):
    r"""Ridge regression on the features and on the trained base classifiers' opinion, exact over tasks.

    .. math:: W = (G_f + n_0^{-p} G_0 + \gamma I)^{-1} [n_c^{-p} m_c]_c, \qquad
              \phi(x) = (\hat x, \mathrm{softmax}(F (x, 1)), 1)

    (``solver.ridge``; the regression is that of ACIL and SegACIL, its weights of classes are AIR's where p is 1; the
    exponent and the base's opinion F are this package's.) Task 0 is trained as SSUL's. A later task adds its sums to
    those of all tasks before, and all filters are solved anew: the result is the same in any order of tasks. Unknown
    pixels count nowhere; without saliency maps they are background. Exemplars, where there is a memory, count beside
    the sums of their task.

    Args:
        gamma: ridge parameter, positive.
        power: p, in [0, 1].
        views: augmentations of each image, at least 1.
        decode_head: its ``classifier`` is 'hybrid', which need not be said.
        segmentor: the other arguments of :class:`.IncrementalSegmentor`.

    Raises:
        InputError: a value is out of range.
    """

    classifier_kinds = ('hybrid', )
    solves = True

    def __init__(self, *, decode_head: dict, gamma: float = 1.0, power: float = 0.4, views: int = 1,
                 **segmentor: Any) -> None:
        super().__init__(decode_head={'classifier': 'hybrid', **decode_head}, **segmentor)
        if type(gamma) not in (int, float) or not 0 < gamma < math.inf:
            raise InputError(f'model.gamma is {gamma!r}; it is a positive number, 1.0 by default')
        if type(power) not in (int, float) or not 0 <= power <= 1:
            raise InputError(f'model.power is {power!r}; it is a number from 0 to 1, 0.4 by default')
        if type(views) is not int or views < 1:
            raise InputError(f'model.views is {views!r}; it is a number of augmentations per image, at least 1')
        self.gamma, self.power, self.views = gamma, power, views
        self._state: dict[str, Tensor] = {}

    @property
    def trunk_fixed(self) -> bool:
        """Always: no task after the first changes the trunk."""
        return True

    def frozen_modules(self) -> list[nn.Module]:
        """From task 1 on: the trunk and the base task's own filters."""
        if self.task == 0:
            return super().frozen_modules()
        return [*self.trunk_modules(), *self.heads[1:], self.decode_head.classifiers[BASE]]

    def check_loop(self, solver: bool) -> None:
        """Refuse a solver: the method is one.

        Raises:
            InputError: there is one.
        """
        if solver:
            raise InputError('incremental.solver is set, but Analytic solves its tasks itself; remove it')

    def start_task(self, old: OldTask) -> None:
        """Take over the old weights and sums; after task 0 its trained filters become the base's opinion."""
        if not set(self.gathered) <= set(old.state):
            raise InputError(f'the weights of task {self.task - 1} hold no sums of a regression; train task '
                             f'{self.task - 1} with this config')
        self._state = dict(old.state)
        weights = old.weights if self.task > 1 else self._with_base(old.weights)
        super().start_task(OldTask(weights, old.state))

    def _with_base(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of task 0 in the form of later ones: its filters as the base's, and solved ones beside them."""
        names = [name for name in ('background', 'task_0', 'unknown') if f'{PREFIX}{name}.0.weight' in weights]
        result = {key: value for key, value in weights.items() if not key.startswith(PREFIX)}
        for kind in ('weight', 'bias'):
            result[f'{PREFIX}{BASE}.0.{kind}'] = torch.cat([weights[f'{PREFIX}{name}.0.{kind}'] for name in names])
        parts = self._solve_columns(self._state, result[f'{PREFIX}{BASE}.0.weight'], result[f'{PREFIX}{BASE}.0.bias'])
        for name, part in zip(['background', *self.decode_head.old_names], parts.split([1, len(parts) - 1]),
                              strict=True):
            result[f'{PREFIX}{name}.0.weight'] = part[:, :-1, None, None].float()
            result[f'{PREFIX}{name}.0.bias'] = part[:, -1].float()
        return result

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """The labels; from task 1 on unknown pixels are ignored."""
        target = super().targets(batch)
        return target if self.task == 0 else target.masked_fill(batch.labels == UNKNOWN, IGNORED)

    def _map(self, weight: Tensor, bias: Tensor) -> FeatureMap:
        """The features of the regression with the base's filters (n, d, 1, 1) and biases (n,)."""
        base = torch.cat([weight.flatten(1), bias.unsqueeze(1)], dim=1).detach()
        return FeatureMap(base, self._state['mean'].to(base.device), self._state['deviation'].to(base.device))

    def _solve_columns(self, state: Mapping[str, Tensor], weight: Tensor, bias: Tensor) -> Tensor:
        """Filters float64 (1 + classes, d + n + 1) of a state for the features and the base's opinion, as they are."""
        sums_of = {key: state[key].to(weight.device) for key in ('foreground', 'background', 'moments', 'counts')}
        return fold(classifier(sums_of, self.gamma, self.power), self._map(weight, bias))

    @torch.no_grad()
    def solve(self, images: TaskImages, solver: None) -> dict[str, Any]:
        """Add the task's sums, and solve the filters of background and all classes."""
        head = self.decode_head
        base = head.filters(BASE)
        features = self._map(base.weight, head.biases(BASE))
        names = ['background', head.new_name]
        classes = images.loader.dataset.metainfo['classes']
        own = sums(images.cells(names, self.views), features, len(head.channels_of(names)))
        state = {key: value.to(base.weight.device) for key, value in self._state.items()}
        state = {**state, **learn(state, own, [classes[channel] for channel in head.channels_of(names)], self.power)}
        self._state = state
        if images.loader.dataset.num_exemplars:
            replayed = sums(images.cells(head.names, self.views, exemplars=True), features, head.out_channels)
            state = with_exemplars(state, replayed, self.power)
        filters = self._solve_columns(state, base.weight, head.biases(BASE))
        for name in head.names:
            rows = filters[head.channels_of([name])]
            head.filters(name).weight.copy_(rows[:, :-1, None, None])
            head.biases(name).copy_(rows[:, -1])
        return dict(cells=own.counts.sum().item())

    def finish_task(self, loader: TaskLoader) -> dict[str, Tensor]:
        """The sums of all tasks; those of task 0 by one pass over its images, whose statistics standardise features."""
        if self.task == 0:
            head = self.decode_head
            names = [name for name in ('background', 'task_0', 'unknown') if name in head.names]
            weight = torch.cat([head.filters(name).weight for name in names]).detach()
            bias = torch.cat([head.biases(name) for name in names]).detach()
            raw = FeatureMap(torch.cat([weight.flatten(1), bias.unsqueeze(1)], dim=1))
            columns = ['background', head.new_name]
            with evaluating(self):
                task = sums(TaskImages(self, loader).cells(columns, self.views), raw, 1 + head.num_seen)
            self._state['mean'], self._state['deviation'] = task.statistics(head.feature_channels)
            task = task.map(self._map(weight, bias).from_raw())
            classes = loader.dataset.metainfo['classes'][:1 + head.num_seen]
            self._state.update(learn({}, task, classes, self.power))
        return {key: value.cpu() for key, value in self._state.items()}

    @property
    def gathered(self) -> tuple[str, ...]:
        """The sums of the regression, and what standardises features."""
        return 'foreground', 'background', 'moments', 'counts', 'mean', 'deviation'
