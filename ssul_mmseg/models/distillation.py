"""What methods that learn beside the old network share: a base that keeps it, distillation, a start, checks."""
import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from ..errors import InputError
from .old_model import OldModel
from .segmentors import IncrementalSegmentor, OldTask

if TYPE_CHECKING:
    from .heads import IncrementalHead


class DistillingSegmentor(IncrementalSegmentor):
    """A segmentor that keeps the old network beside the one that learns.

    Args:
        segmentor: the arguments of :class:`~ssul_mmseg.models.segmentors.IncrementalSegmentor`.
    """

    def start_task(self, old: OldTask) -> None:
        """Take over the old weights, and keep the old network."""
        super().start_task(old)
        self.old_model = OldModel(self)


def old_class_distillation(logits: Tensor, old_logits: Tensor) -> Tensor:
    r"""Cross-entropy between the old network and the new one, whose softmax is that over the old channels alone.

    .. math:: -\frac{1}{C} \sum_{c < C} q_c \log p_c, \quad q = \mathrm{softmax}(s^{old}),
              \quad p = \mathrm{softmax}(s_{0..C-1})

    (Learning without Forgetting, Eq. 2 at temperature 1, as in the code of MiB: the mean over the C old channels, where
    the paper has the sum.)

    Args:
        logits: float (B, C + new, H, W), [background, old classes, new classes].
        old_logits: float (B, C, H, W).

    Returns:
        float (B, H, W), nats.
    """
    kept = logits[:, :old_logits.shape[1]]
    return -(old_logits.softmax(1) * kept.log_softmax(1)).mean(1)


@torch.no_grad()
def start_balanced(head: 'IncrementalHead') -> None:
    r"""Share the background's probability equally among background and new classes (MiB, section 3.4).

    .. math:: w_c = w_b, \quad b_c = b_b - \log(n + 1) \quad \text{for the } n \text{ new classes and the background } b

    Then background and new classes together are exactly as probable as the background was. Make the old model before:
    its background must not move.

    Args:
        head: with the old weights; the classifiers of its newest task and of background are written.
    """
    head.transfer_weights('background')
    for name in (head.new_name, 'background'):
        bias = cast(Tensor, cast(nn.Sequential, head.classifiers[name])[-1].bias)
        bias -= math.log(head.num_seen - head.num_old + 1)


def check_head(head: 'IncrementalHead', method: str, softmax: bool = True) -> None:
    """Refuse a head whose channels or scores are not those of a method.

    Args:
        head: the decode head.
        method: the method's name.
        softmax: whether the method learns by a softmax over all channels, or by a sigmoid for each.

    Raises:
        InputError: the head has an unknown channel, or the other kind of loss.
    """
    if head.has_unknown:
        raise InputError(f'{method} knows no unknown class; set model.decode_head.unknown=False')
    if head.independent_channels == softmax:
        scores, loss = ('a softmax', 'SoftmaxCELoss') if softmax else ('sigmoids', 'SigmoidBCELoss')
        raise InputError(f'{method} learns by {scores}; set model.decode_head.loss_decode.type={loss}')


def check_weight(key: str, weight: float, published: float) -> None:
    """Refuse a weight of a loss that is negative or infinite.

    Args:
        key: the option of the model.
        weight: its value.
        published: the value that was published.

    Raises:
        InputError: it is negative, infinite, or no number.
    """
    if type(weight) not in (int, float) or not 0 <= weight < math.inf:
        raise InputError(f'model.{key} is {weight!r}; it is at least 0 and finite, as published {published:g}')
