"""Check that frozen means frozen: training must not change a tensor of a frozen module."""
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from ..models.segmentors import IncrementalSegmentor
from ..work_dir.weights import tensor_digest
from .processes import unwrap
from .runner import TaskRunner


@HOOKS.register_module()
class FreezeHook(Hook):
    """Compares checksums of all frozen tensors before and after training."""

    priority = 'HIGH'

    def before_train(self, runner: TaskRunner) -> None:
        """Remember the checksums of what must not change."""
        self._before = frozen_digests(unwrap(runner.model))

    def after_train(self, runner: TaskRunner) -> None:
        """Check that nothing of it has changed.

        Raises:
            RuntimeError: a tensor has changed; a method's code is wrong.
        """
        now = frozen_digests(unwrap(runner.model))
        moved = [name for name, was in self._before.items() if now[name] != was]
        if moved:
            raise RuntimeError(f'{len(moved)} frozen tensors moved in task {runner.task}, the first is {moved[0]}')


def frozen_digests(model: IncrementalSegmentor) -> dict[str, str]:
    """Checksums of all frozen tensors, buffers included, by name."""
    digests = {}
    for place, module in enumerate(model.frozen_modules()):
        prefix = f'{type(module).__name__}_{place}'
        digests.update({f'{prefix}.{name}': tensor_digest(tensor) for name, tensor in module.state_dict().items()})
    return digests
