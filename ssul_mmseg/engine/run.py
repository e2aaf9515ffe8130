"""A scenario's run: what its tasks share, and where it keeps its files."""
from functools import cached_property
from pathlib import Path

from mmengine.config import Config
from mmseg.registry import DATASETS

from ..datasets.memory import ExemplarMemory
from ..datasets.task_dataset import TaskDataset
from ..errors import InputError
from ..scenario import Scenario
from ..work_dir.layout import MEMORY, WEIGHTS, task_dir
from .config_faults import config_faults
from .run_plan import Plan
from .shared_features import TestFeatures
from .task_config import memory_of


class Run:
    """A run of a scenario.

    Args:
        config: the scenario's config, with ``work_dir``.

    Raises:
        InputError: the scenario or the memory of the config is wrong.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.work_dir = Path(config.work_dir)
        with config_faults(config):
            self.scenario = Scenario(**config.scenario)
            self.memory: ExemplarMemory | None = memory_of(config)
        self.test_features = TestFeatures()
        self.plan: Plan | None = None  # of the first process alone, which shows progress
        self._train_data: tuple[dict, TaskDataset] | None = None
        self._test_data: tuple[dict, TaskDataset] | None = None

    @property
    def seed(self) -> int:
        """Seed of all that is random."""
        return self.config.randomness.seed

    @property
    def tasks(self) -> range:
        """Indices of the scenario's tasks."""
        return range(len(self.scenario.tasks))

    @cached_property
    def name(self) -> str:
        """Name of the config's method in tables; with an exemplar memory it ends in '-M'."""
        name = self.config.get('method') or self.config.model.type
        return name if self.memory is None or name.endswith('-M') else f'{name}-M'

    def folder(self, task: int) -> Path:
        """Where a task's files lie."""
        return task_dir(self.work_dir, task)

    def exemplars(self, task: int) -> Path | None:
        """Manifest of the exemplars that a task replays; None in task 0 and without a memory."""
        return self.folder(task - 1) / MEMORY if task > 0 and self.memory else None

    def has(self, task: int, *names: str) -> bool:
        """Whether a task has all the named files; one without memory needs no manifest."""
        return all((self.folder(task) / name).is_file() for name in names if name != MEMORY or self.memory)

    def learned_task(self, task: int | None) -> int:
        """A task of which the work dir holds weights: the one asked for, or by default the last.

        Raises:
            InputError: it is not learned, or none is.
        """
        learned = [known for known in self.tasks if (self.folder(known) / WEIGHTS).is_file()]
        if not learned:
            raise InputError(f'there is no learned task in {self.work_dir}; train one with ssul train')
        if task is not None and self.scenario.check_task(task) not in learned:
            raise InputError(f'task {task} is not learned in {self.work_dir}, which holds '
                             f'{", ".join(map(str, learned))}; choose one of them, or train it with ssul train')
        return learned[-1] if task is None else task

    def train_data(self, config: Config, task: int, exemplars: str | Path | None = None) -> TaskDataset:
        """Build the training data of a task; what all tasks share, such as the scanned masks, is read once per run.

        Args:
            config: the task's config.
            task: index of the task.
            exemplars: manifest of the exemplars to replay.
        """
        fixed = {**config.train_dataloader.dataset.to_dict(), 'task': None}
        if self._train_data is None or self._train_data[0] != fixed:
            self._train_data = fixed, _build(config, {**fixed, 'task': task})
        return self._train_data[1].for_task(task, exemplars)

    def test_data(self, config: Config) -> TaskDataset:
        """Build the test data once per run: they show all classes in every task; the metric knows which are learned."""
        fixed = {**config.test_dataloader.dataset.to_dict(), 'task': 0}
        if self._test_data is None or self._test_data[0] != fixed:
            self._test_data = fixed, _build(config, fixed)
        return self._test_data[1]


def _build(config: Config, dataset: dict) -> TaskDataset:
    """Build a data set; report a fault of its config in one sentence."""
    with config_faults(config):
        return DATASETS.build(dataset)
