"""Write losses, learning rate and mIoU of all tasks of a run as one series, by any of mmengine's backends."""
import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.visualization import Visualizer
from mmseg.registry import VISUALIZERS
from mmseg.visualization import SegLocalVisualizer

from ..errors import InputError
from ..work_dir.results import COLUMNS

TYPE = 'ScenarioVisualizer'
REPLACED = ('Visualizer', 'SegLocalVisualizer')
"""Types of mmengine's and mmseg's own configs, whose place :class:`ScenarioVisualizer` takes; it does what they do."""
NOT_IN_A_TAG = re.compile(r'[^\w.\- ]')


@VISUALIZERS.register_module()
class ScenarioVisualizer(SegLocalVisualizer):
    """One visualizer for all tasks of a run, whose steps go on from task to task.

    mmengine counts the iterations of a task from 0 and closes a task's visualizer at its end; experiment trackers would
    draw the tasks over one another, or make an experiment of each.

    Args:
        name: by which mmengine finds it again.
        visualizer: the arguments of mmseg's ``SegLocalVisualizer``: ``vis_backends``, ``save_dir``, ...
    """

    def __init__(self, name: str, **visualizer: Any) -> None:
        super().__init__(name, **visualizer)
        self.first_step = 0
        """Iterations of the tasks before the one at work."""
        self._has_config = False

    @classmethod
    def get_instance(cls, name: str, **kwargs: Any) -> 'ScenarioVisualizer':
        """Find the visualizer of a run, or make it; mmengine warns where arguments come with the name of one."""
        return super().get_instance(name, **({} if cls.check_instance_created(name) else kwargs))

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Record the config of the first task: some backends refuse a second one."""
        if not self._has_config:
            self._has_config = True
            super().add_config(config, **kwargs)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Record a value at an iteration of the task."""
        super().add_scalar(name, value, self.first_step + step, **kwargs)

    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any) -> None:
        """Record values at an iteration of the task; all tasks share one file, so ``file_path`` is not used."""
        super().add_scalars(scalar_dict, self.first_step + step, None, **kwargs)

    def close(self) -> None:
        """Do nothing at the end of a task: its successor writes on."""

    def finish(self) -> None:
        """Close the backends at the end of the run, and forget the visualizer."""
        super().close()
        for kind in (Visualizer, type(self)):
            kind._instance_dict.pop(self.instance_name, None)


def set_visualizer(cfg: Config, work_dir: str) -> None:
    """Let all tasks of a run share one :class:`ScenarioVisualizer`; without a choice it writes a JSON file.

    Args:
        cfg: a task's config.
        work_dir: of the run; its folder ``vis_data`` holds what backends write.

    Raises:
        InputError: ``visualizer.type`` is of another kind.
    """
    given = dict(cfg.get('visualizer') or {})
    kind = given.get('type', TYPE)
    kind = TYPE if kind in REPLACED else kind
    if not issubclass(VISUALIZERS.get(kind) or object, ScenarioVisualizer):
        raise InputError(f'visualizer.type is {kind}, which does not count steps over all tasks; leave it out, or set '
                         f'a subclass of {TYPE}')
    cfg.visualizer = {'vis_backends': [dict(type='LocalVisBackend')], 'save_dir': work_dir, **given, 'type': kind,
                      'name': _name(work_dir)}


def _name(work_dir: str | Path) -> str:
    """Name of a run's visualizer; the tasks of the run find the same one by it."""
    return f'scalars of {Path(work_dir).resolve()}'


def add_metrics(cfg: Config, metrics: Mapping[str, Any], step: int) -> None:
    """Record a task's mIoU of base, new and all classes, its IoU per class and its forgetting, in percent.

    Args:
        cfg: the task's config.
        metrics: of ``IncrementalIoUMetric``, with what was forgotten.
        step: iterations of this task and of those before it.
    """
    if not is_main_process():
        return
    values = {f'mIoU/{column}': metrics[f'mIoU_{column}'] for column in COLUMNS}
    # Some trackers take no other characters, and a slash would make groups of classes.
    values |= {f'IoU/{NOT_IN_A_TAG.sub("_", name)}': iou for name, iou in metrics['IoU'].items()}
    values['forgetting'] = metrics['forgetting']
    visualizer = VISUALIZERS.build(copy.deepcopy(cfg.visualizer))  # the one of the task's training, where it was here
    visualizer.add_scalars({key: value for key, value in values.items() if value is not None},
                           step - visualizer.first_step)


def finish_visualizer(work_dir: str | Path) -> None:
    """Close what the tasks of a run have written to."""
    name = _name(work_dir)
    if Visualizer.check_instance_created(name):
        Visualizer.get_instance(name).finish()
