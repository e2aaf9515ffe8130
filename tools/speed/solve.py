"""Tasks that are solved: one pass over the trunk, then a convex problem over all of the task's cells."""
import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ssul_mmseg.engine.feature_cache import FeatureCache
from ssul_mmseg.errors import InputError
from ssul_mmseg.models.losses import IGNORED
from ssul_mmseg.models.segmentors import IncrementalSegmentor, OldTask
from ssul_mmseg.scenario import BACKGROUND, UNKNOWN
from ssul_mmseg.solver.cells import soft_targets
from ssul_mmseg.solver.newton import Newton
from ssul_mmseg.solver.task_cells import TaskCells, TaskImages

from .measure import Updater, Work, peak_memory, say, time_in_turns
from .networks import build_analytic, random_batch, start_ssul
from .settings import GROWTH_SURVIVORS, Options
from .task_data import NoiseImages, loader_of

BATCH_SIZE = 32
"""Images of a group of cells, as in the task's config."""
GROWTH_IMAGES = 50
"""Images whose cells are solved with many old classes and with few; the pass over the trunk is not part of it."""
DEVIATION = 0.5
"""Of the noise that tells the copies of an image's features apart."""


class KeptImages(TaskImages):
    """Images whose cells are in the cache, whoever asks for them; nothing passes the trunk."""

    @property
    def num_cells(self) -> int:
        """Cells of all images."""
        assert self.cache is not None  # they are in it
        return len(self.loader.dataset) * self.cache[0, 0].features[0][0].numel()

    def cells(self, names: Sequence[str], views: int = 1, exemplars: bool = False, kept: bool = True) -> TaskCells:
        """Cells from the cache, see :meth:`TaskImages.cells`."""
        return super().cells(names, views, exemplars, kept=True)


class SolvedTask:
    """A task whose images have passed the trunk, so that its solution is what is left.

    Args:
        model: the network that learns, at the start of the task.
        images: the cells of the task's images.
        solver: SSUL's; Analytic has none.
    """

    def __init__(self, model: IncrementalSegmentor, images: KeptImages, solver: Newton | None) -> None:
        self.model, self.images, self.solver = model, images, solver
        self._filters = copy.deepcopy(model.decode_head.classifiers.state_dict())
        self._sums = vars(model).get('_state')  # Analytic's, of the tasks before

    def __call__(self) -> dict:
        """Solve the task from its start; returns what the method reports."""
        # What the last solution has changed, and no more: ``start_task`` would copy the whole network.
        self.model.decode_head.classifiers.load_state_dict(self._filters)
        if self._sums is not None:
            self.model.__dict__['_state'] = self._sums
        return self.model.solve(self.images, self.solver)


def newton_task(options: Options, classes_per_task: Sequence[int], survivors: int, count: int) -> SolvedTask:
    """SSUL's task by Newton's method.

    Args:
        options: of the run.
        classes_per_task: of all tasks so far, at least two.
        survivors: old classes that exceed tau in each image.
        count: images of the task.
    """
    model = start_ssul(options, classes_per_task, survivors, random_batch(options))
    return SolvedTask(model, kept_images(options, model, model.learning_classifiers(), count), Newton())


def analytic_task(options: Options, classes_per_task: Sequence[int], survivors: int, count: int) -> SolvedTask:
    """Analytic's task; see :func:`newton_task`, but it has no pseudo-labels, so that survivors mean nothing."""
    model = build_analytic(options, classes_per_task)
    # Background, the base task's classes and unknown have an opinion; the last input is a one.
    width = model.decode_head.feature_channels + 2 + classes_per_task[0] + 1
    state = random_sums(model.decode_head.feature_channels, width, 1 + sum(classes_per_task[:-1]))
    model.start_task(OldTask(build_analytic(options, classes_per_task[:-1]).state_dict(), state))
    model.train()
    names = ['background', model.decode_head.new_name]
    return SolvedTask(model, kept_images(options, model, names, count), None)


METHODS: dict[str, Callable[[Options, Sequence[int], int, int], SolvedTask]] = {
    'newton': newton_task, 'analytic': analytic_task}


def random_sums(features: int, width: int, channels: int) -> dict[str, Tensor]:
    """The state of a regression on ``width`` inputs, the first of them features, for so many channels."""
    chance = torch.Generator().manual_seed(0)
    inputs = torch.randn(2 * width, width, generator=chance, dtype=torch.double)
    inputs[:, -1] = 1
    gram = inputs.T @ inputs
    return dict(
        foreground=gram, background=gram.clone(), counts=torch.full((channels, ), 1000., dtype=torch.double),
        moments=torch.randn(channels, width, generator=chance, dtype=torch.double),
        mean=torch.zeros(features, dtype=torch.double), deviation=torch.ones(features, dtype=torch.double))


def class_names(model: IncrementalSegmentor) -> list[str]:
    """Names of background and all classes so far."""
    return ['background', *(f'class {number}' for number in range(1, model.decode_head.num_seen + 1))]


@torch.no_grad()
def kept_images(options: Options, model: IncrementalSegmentor, names: Sequence[str], count: int) -> KeptImages:
    """Images of a task whose cells are in the cache, as after their pass over the trunk.

    A few have passed it in fact; the others have their labels, and their features with noise.

    Args:
        options: of the run.
        model: the network that learns one new class.
        names: classifiers whose channels are the columns of the cells' targets: background, the class, (unknown).
        count: images of the task.

    Raises:
        InputError: the memory is too small for the cells.
    """
    batch = random_batch(options)
    features = model.trunk(batch.inputs)
    # Columns instead of labels: an 8-bit label cannot name the 1001st class.
    target = torch.full(batch.labels.shape, IGNORED, device=features.device)
    target[batch.labels == BACKGROUND] = 0
    if len(names) > 2:
        target[batch.labels == UNKNOWN] = 2
    target[batch.new] = 1
    shares, weights = soft_targets(target, len(names), (features.shape[2], features.shape[3]))
    shown = torch.cat([shares, weights.unsqueeze(1)], dim=1)
    cache, chance = FeatureCache(), torch.Generator().manual_seed(0)
    for position in range(count):
        own = features[position % len(features)].cpu()
        noise = torch.randn(own.shape, generator=chance) * DEVIATION * own.std()
        cache.put((position, 0), [own + noise], shown[position % len(features)])
    if cache.full:
        raise InputError(f'the cells of {count} images need more than half of the free memory; end other programs')
    images = NoiseImages(batch.inputs, batch.labels, class_names(model), count)
    return KeptImages(model, loader_of(images, BATCH_SIZE), cache)


def build_pass(options: Options, model: IncrementalSegmentor) -> Work:
    """A pass over the trunk of the run's batch, whose images become cells that a cache keeps.

    Args:
        options: of the run.
        model: the network that learns a task's first new class, by Newton's method.
    """
    batch, names = random_batch(options), model.learning_classifiers()
    labels = batch.labels.masked_fill(batch.new, model.decode_head.num_old + 1)
    loader = loader_of(NoiseImages(batch.inputs, labels, class_names(model)), options.scale.batch)
    context = Updater(model, options).autocast

    def work() -> None:
        # A cache of its own: what it holds already would not pass again.
        for _ in TaskImages(model, loader, FeatureCache(limit=1), context).cells(names, kept=True):
            pass

    return work


def build_solution(options: Options, method: str, classes_per_task: Sequence[int], survivors: int, count: int,
                   solves: bool) -> Work:
    """The solution of a task from its cells; without ``solves`` nothing happens: what is measured was there before."""
    solved = METHODS[method](options, classes_per_task, survivors, count)

    def only_there() -> None:
        _ = solved  # network and cells stay in the memory that is measured

    return solved if solves else only_there


def solved_seconds(images: int, pass_of_image: float, solution: float) -> dict[str, float]:
    """Seconds of a solved task, and the share of its solution.

    Args:
        images: of the task.
        pass_of_image: seconds in which an image becomes cells.
        solution: seconds of the solution.
    """
    seconds = images * pass_of_image + solution
    return dict(seconds=seconds, share_of_solution=solution / seconds)


def measure_memory(options: Options, method: str, classes_per_task: Sequence[int], survivors: int,
                   count: int) -> dict[str, int | None]:
    """Peak memory of a solution in a process of its own, bytes, and how much of it network and cells took before."""
    args = options, method, classes_per_task, survivors, count
    peak, before = (peak_memory(build_solution, *args, solves, device=options.device) for solves in (True, False))
    say(f'solve: memory of {method} measured')
    return dict(peak=peak, before=before, added=peak - before if peak is not None and before is not None else None)


def measure_growth_of_solution(options: Options) -> dict:
    """Seconds of a solution with many old classes, learned after the base task or in it, and with few."""
    few, many = options.scale.growth[0], options.scale.growth[-1]
    cases = {f'{few}': (few, 1), f'{many}': (few, many - few, 1), f'{many} in the base task': (many, 1)}
    variants: dict[str, Work] = {}
    for case, classes in cases.items():
        for method, build in METHODS.items():
            variants[f'{method}, {case}'] = build(options, classes, GROWTH_SURVIVORS, GROWTH_IMAGES)
    seconds = time_in_turns(variants, options, 'solve, old classes')

    def ratio(method: str, case: str) -> float:
        return seconds[f'{method}, {case}']['median'] / seconds[f'{method}, {few}']['median']

    return dict(
        images=GROWTH_IMAGES, old_classes=list(cases),
        seconds={method: {case: seconds[f'{method}, {case}'] for case in cases} for method in METHODS},
        ratio={method: ratio(method, f'{many}') for method in METHODS},
        ratio_in_base_task={method: ratio(method, f'{many} in the base task') for method in METHODS})
