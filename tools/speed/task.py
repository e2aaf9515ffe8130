"""A whole incremental task, from what was measured: trained with cached features, without, plainly, or solved."""
from collections.abc import Hashable, Mapping, Sequence
from types import SimpleNamespace

import torch

from ssul_mmseg.datasets.samplers import ReplayBatchSampler
from ssul_mmseg.engine.feature_cache import FeatureCache, stack
from ssul_mmseg.engine.groups import due_groups, group_size
from ssul_mmseg.methods.ssul import SSUL

from .measure import Updater, Work, time_in_turns
from .networks import Batch, random_batch, start_ssul
from .reference import build_reference, fast_loss, fast_targets
from .settings import SETTINGS, Options
from .solve import METHODS, build_pass, measure_growth_of_solution, measure_memory, solved_seconds
from .targets import target

SETTING = 'voc_15-1_task1'
IMAGES = 487
"""Training images of VOC's class 16 (potted plant), overlapped."""
EPOCHS = 50
BATCH_SIZE = 32
VIEWS = 5


def visits(images: int, epochs: int, batch_size: int, views: int) -> tuple[int, int, int]:
    """How many images a task without memory passes through the network, batch by batch as in training.

    Args:
        images: of the task.
        epochs: of the task.
        batch_size: images per iteration.
        views: augmentations per image.

    Returns:
        All visits, first visits (in their view), passes of the trunk with a cache that holds everything.
    """
    epoch = SimpleNamespace(dataset=SimpleNamespace(num_new=images, num_exemplars=0))
    sampler = ReplayBatchSampler(epoch, batch_size)
    kept: set[Hashable] = set()
    total = passes = 0
    for number in range(epochs):
        batches = list(sampler.batches(number * len(sampler), len(sampler), views, by_image=True))
        passes += group_size(sampler) * sum(map(len, due_groups(batches, kept, group_size(sampler))))
        kept.update(*batches)
        total += sum(map(len, batches))
    return total, len(kept), passes


@torch.no_grad()
def fill(model: SSUL, batch: Batch, cache: FeatureCache, keys: Sequence[int]) -> None:
    """Keep features and finished labels of images that are not cached, as ``TaskTrainLoop`` does."""
    seen = model.batch_of(batch.inputs, batch.labels)
    labels = model.decode_head.to_labels(fast_targets(model, seen, batch))
    for key, features, label in zip(keys, seen.features, labels, strict=True):
        cache.put(key, [features], label)


def measure_task(options: Options) -> dict:
    """Seconds of a task of VOC, computed from those of its kinds of iteration."""
    setting, batch = SETTINGS[SETTING], random_batch(options)
    size, keys = options.scale.batch, range(options.scale.batch)
    model = start_ssul(options, setting.classes_per_task, setting.survivors, batch)
    update, device = Updater(model, options), batch.inputs.device
    plain = {same: build_reference(options, setting.classes_per_task, same) for same in (False, True)}
    updates = {same: Updater(reference.network, options) for same, reference in plain.items()}
    cache = FeatureCache()

    def first_visit() -> None:
        # A cache of its own: what it holds already it would not keep again.
        with update.autocast():
            fill(model, batch, FeatureCache(limit=1), keys)

    def cached() -> None:
        features, labels = stack([cache[key] for key in keys], device)
        update(lambda: model(features, labels, mode='kept')['loss_bce'])

    with update.autocast():
        fill(model, batch, cache, keys)
    variants: dict[str, Work] = {
        'uncached': lambda: update(lambda: fast_loss(model, batch)),
        'first_visit': first_visit,
        'cached': cached,
        'reference': lambda: updates[False](lambda: plain[False].loss(batch)),
        'reference_same_network': lambda: updates[True](lambda: plain[True].loss(batch)),
    }
    solved = {method: build(options, setting.classes_per_task, setting.survivors, IMAGES)
              for method, build in METHODS.items()}
    variants['pass_to_cells'] = build_pass(options, solved['newton'].model)
    seconds = time_in_turns({**variants, **solved}, options, f'task {SETTING}')
    total, first, passes = visits(IMAGES, EPOCHS, BATCH_SIZE, VIEWS)
    per_image = {name: found['median'] / size for name, found in seconds.items()}
    task = {name: total * per_image[name] for name in ('uncached', 'reference', 'reference_same_network')}
    task['cached'] = passes * per_image['first_visit'] + total * per_image['cached']
    found = {method: solved_seconds(IMAGES, per_image['pass_to_cells'], seconds[method]['median']) for method in solved}
    task.update({method: each['seconds'] for method, each in found.items()})
    solution = {
        'cells': solved['newton'].images.num_cells,
        'newton_steps': solved['newton']()['steps'],
        'share_of_task': {method: each['share_of_solution'] for method, each in found.items()},
        'growth': measure_growth_of_solution(options),
        'memory_bytes': {method: measure_memory(options, method, setting.classes_per_task, setting.survivors, IMAGES)
                         for method in METHODS},
    }
    return {SETTING: {
        'images': IMAGES, 'epochs': EPOCHS, 'batch_size': BATCH_SIZE, 'views': VIEWS,
        'visits': total, 'first_visits': first, 'trunk_passes': passes, 'measured_batch_size': size,
        'seconds_per_iteration': {name: seconds[name] for name in variants},
        'seconds_of_solution': {name: seconds[name] for name in solved},
        'seconds_per_task': task,
        'speedup_cached': task['reference'] / task['cached'],
        'speedup_uncached': task['reference'] / task['uncached'],
        'speedup_cached_same_network': task['reference_same_network'] / task['cached'],
        'speedup_uncached_same_network': task['reference_same_network'] / task['uncached'],
        'solution': solution,
        'targets': solution_targets(task, solution),
    }}


def solution_targets(seconds: Mapping[str, float], solution: Mapping) -> list[dict]:
    """What a solved task was to reach.

    Args:
        seconds: of a task, by variant.
        solution: what was measured of the solutions.
    """
    targets, (few, many, *_) = [], solution['growth']['old_classes']
    for method in METHODS:
        own, added = seconds[method], solution['memory_bytes'][method]['added']
        targets += [
            target(f"{method}: the plain formulation's seconds / its own", seconds['reference'] / own, least=100),
            target(f"{method}: cached SGD's seconds / its own", seconds['cached'] / own, least=5),
            target(f'{method}: share of the solution in the task', solution['share_of_task'][method], most=.05),
            target(f"{method}: the solution's seconds with {many} old classes / with {few}",
                   solution['growth']['ratio'][method], most=1.1),
            target(f'{method}: MB that the solution takes beside network and cells',
                   None if added is None else added / 1e6, most=200),
        ]
    return targets
