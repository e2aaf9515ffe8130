"""EWC: what mattered to the old classes is held where it was (PNAS 2017)."""
from collections.abc import Mapping
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ..errors import InputError
from ..models.distillation import check_head, check_weight
from ..models.losses import pixel_ce
from ..models.segmentors import Batch, IncrementalSegmentor, OldTask

DECAY = 0.9
"""Share of the newest gradient in the running average."""
EPS = 1e-8


@MODELS.register_module()
class EWC(IncrementalSegmentor):
    r"""Elastic Weight Consolidation (Kirkpatrick et al., PNAS 2017), as the code of MiB computes it.

    .. math:: L = L_{CE} + \lambda \sum_i F_i (\theta_i - \theta_i^{old})^2

    (Eq. 3 of the paper, without its 1/2.) The diagonal F of the Fisher information is a running average: it starts at
    1, and every update makes it :math:`F \leftarrow 0.9 g^2 + 0.1 F` of the gradient g of the batch's task loss. Before
    the next task every tensor of F is brought to [0, 1] by its own least and largest value. Parameters of new classes
    have no penalty.

    Published: lambda 500 (the code of MiB; that of PLOP has 100), and MiB's schedule. The penalty's curvature is up to
    :math:`2 \lambda`, so SGD with momentum m diverges at a learning rate above :math:`(1 + m) / \lambda`.

    Paper and published code: the paper averages over the data of a task; the code's average forgets so fast that F is
    that of the last two or three batches. A tensor of a single value has least = largest, so F = 0. The published
    numbers come from this, so this does it too. The code averages the loss over **all** pixels, ignored ones counting
    as 0.

    Args:
        penalty_weight: lambda, at least 0.
        segmentor: the arguments of :class:`.IncrementalSegmentor`; its head has no unknown channel and a softmax.

    Raises:
        InputError: ``penalty_weight`` is negative, or the head has an unknown channel or sigmoids.
    """

    def __init__(self, *, penalty_weight: float = 500., **segmentor: Any) -> None:
        super().__init__(**segmentor)
        check_head(self.decode_head, 'EWC')
        check_weight('penalty_weight', penalty_weight, 500)
        self.penalty_weight = penalty_weight
        self.fisher: dict[str, Tensor] = {}
        # Of the old task, by parameter: its Fisher information in [0, 1], and the parameter's value.
        self.held: dict[str, tuple[Tensor, Tensor]] = {}

    def start_task(self, old: OldTask) -> None:
        """Take over the old weights, and remember them with how much each matters.

        Raises:
            InputError: the old task was learned by another method, which has no Fisher information.
        """
        super().start_task(old)
        if not old.state:
            raise InputError(f'task {self.task - 1} was learned by another method, and has no Fisher information; '
                             'train it with EWC')
        parameters = {name: parameter.detach() for name, parameter in self.named_parameters()}
        self.held = {name: (normalise(fisher.to(parameters[name].device)), parameters[name].clone())
                     for name, fisher in old.state.items() if name in parameters}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy over all pixels; the penalty is shown beside it, and its gradient is added in the step."""
        loss = pixel_ce(self.at_label_size(self.logits(batch), batch), batch.targets).mean()
        losses = {'loss_ce': loss, **self.auxiliary_losses(batch)}
        if self.held:
            losses['ewc_penalty'] = self.penalty()
        return losses

    @torch.no_grad()
    def penalty(self) -> Tensor:
        """Value of lambda sum F (theta - theta_old)^2, a scalar."""
        parameters = dict(self.named_parameters())
        terms = [(fisher * (parameters[name] - old).square()).sum() for name, (fisher, old) in self.held.items()]
        return self.penalty_weight * torch.stack(terms).sum()

    @torch.no_grad()
    def before_step(self) -> None:
        """Take the gradient of the task loss into the average, then add that of the penalty to it."""
        for name, parameter in self.named_parameters():
            if parameter.grad is None:
                continue
            self.fisher[name] = update_fisher(self.fisher.get(name), parameter.grad)
            if name in self.held:
                fisher, old = self.held[name]
                parameter.grad += 2 * self.penalty_weight * fisher * (parameter - old)

    def task_state(self) -> dict[str, Tensor]:
        """Fisher information of this task so far, by parameter."""
        return self.fisher

    def load_task_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on averaging from a checkpoint."""
        device = next(self.parameters()).device
        self.fisher = {name: fisher.to(device) for name, fisher in state.items()}


def update_fisher(fisher: Tensor | None, gradient: Tensor) -> Tensor:
    """The running average after one more gradient of its shape; None stands for its start, 1."""
    return DECAY * gradient.square() + (1 - DECAY) * (1. if fisher is None else fisher)


def normalise(fisher: Tensor) -> Tensor:
    """Bring a tensor to [0, 1] by its least and largest value; one whose values are all the same becomes 0."""
    least = fisher.min()
    return (fisher - least) / (fisher.max() - least + EPS)
