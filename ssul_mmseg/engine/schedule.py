"""The learning rate of every iteration: DeepLab's polynomial."""
from typing import Any

from mmengine.optim import PolyLR
from mmseg.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class DeepLabPolyLR(PolyLR):
    r"""DeepLab's "poly" schedule, in which every one of the T steps learns.

    :math:`\eta_i = \eta_{min} + (\eta_0 - \eta_{min}) (1 - i / T)^{power}` for :math:`i = 0 \ldots T - 1`
    (DeepLab-v3, section 4.1).

    Args:
        args: as of mmengine's ``PolyLR``.
        kwargs: as of mmengine's ``PolyLR``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # PolyLR counts to T - 1: it would give the last step the rate eta_min, and short tasks a much lower mean.
        self.total_iters = self.end - self.begin
