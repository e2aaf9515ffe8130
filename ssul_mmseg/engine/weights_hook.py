"""Save the weights of a learned task, with checksums of what it was learned from."""
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from ..work_dir.layout import WEIGHTS
from ..work_dir.weights import save_weights
from .finite_hook import refuse_not_finite
from .processes import on_main_process, unwrap
from .runner import TaskRunner

ORIGIN = 'origin'
"""Key under which a checkpoint holds what its task is learned from."""


@HOOKS.register_module()
class WeightsHook(Hook):
    """Saves the weights at the end of a task, after all else: saved weights mark the task as learned."""

    priority = 'LOW'

    def after_train(self, runner: TaskRunner) -> None:
        """Let the method finish its task, and save."""
        run, model, dataset = runner.scenario_run, unwrap(runner.model), runner.train_dataloader.dataset
        method_state = model.finish_task(runner.train_dataloader)  # may still change the weights
        state = {'state_dict': model.state_dict(), 'method_state': method_state}
        refuse_not_finite(state, runner, runner.iter)
        origin = origin_of(runner)  # with all processes: they wait for each other
        if is_main_process():
            seen = run.scenario.seen(runner.task)
            save_weights(
                run.folder(runner.task) / WEIGHTS, state['state_dict'],
                [dataset.metainfo['classes'][label] for label in seen], dataset.metainfo['palette'][:seen.stop],
                runner.task, origin, state['method_state'])


def origin_of(runner: TaskRunner) -> dict[str, str]:
    """What a task is learned from: checksums of the old task's weights and of the images with what they show."""
    # One process reads the files and sends the checksum to the others.
    images = on_main_process(runner.train_dataloader.dataset.digest)
    return {'old weights': runner.old_digest, 'images': images}
