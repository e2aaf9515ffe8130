"""One iteration of a task that is not the first: against the plain formulation, the trunk alone, and more classes."""
from collections.abc import Sequence

import torch

from .measure import Updater, Work, free_bytes, peak_memory, say, time_in_turns
from .networks import count_survivors, random_batch, start_ssul
from .reference import build_reference, fast_loss
from .settings import GROWTH_SURVIVORS, SETTINGS, Options

MEASURED = ('ours', 'reference', 'reference_same_network', 'trunk')
TENSORS = 8
"""Tensors of all channels at full resolution that the plain formulation holds at its peak, about."""


def build_step(options: Options, variant: str, classes_per_task: Sequence[int], survivors: int) -> Work:
    """One iteration: forward pass, loss, backward pass, SGD step.

    Args:
        options: of the run.
        variant: 'ours'; 'reference', the plain formulation with the authors' classifier and the default memory layout;
            'reference_same_network', the plain formulation with our classifier and layout; 'trunk', the forward pass
            of backbone and ASPP alone.
        classes_per_task: of all tasks so far.
        survivors: old classes that exceed tau in each image.
    """
    batch = random_batch(options)
    if variant.startswith('reference'):
        plain = build_reference(options, classes_per_task, same_network=variant == 'reference_same_network')
        update = Updater(plain.network, options)
        return lambda: update(lambda: plain.loss(batch))
    model = start_ssul(options, classes_per_task, survivors, batch)
    update = Updater(model, options)
    if variant == 'ours':
        return lambda: update(lambda: fast_loss(model, batch))

    @torch.no_grad()
    def trunk() -> None:
        with update.autocast():
            model.trunk(batch.inputs)

    return trunk


def survivors_of(options: Options, classes_per_task: Sequence[int], survivors: int) -> list[int]:
    """Old classes of each image that exceed tau, counted."""
    batch = random_batch(options)
    return count_survivors(start_ssul(options, classes_per_task, survivors, batch), batch)


def measure_step(options: Options) -> dict:
    """Seconds and peak memory of an iteration in every setting."""
    return {name: _measure_setting(options, name) for name in SETTINGS}


def _measure_setting(options: Options, name: str) -> dict:
    """Seconds and peak memory of an iteration in one setting."""
    setting, title = SETTINGS[name], f'step {name}'
    classes, num_old = setting.classes_per_task, sum(setting.classes_per_task[:-1])
    memory = {}
    for variant in MEASURED:
        memory[variant] = peak_memory(build_step, options, variant, classes, setting.survivors, device=options.device)
        say(f'{title}: memory of {variant} measured')
    variants = {variant: build_step(options, variant, classes, setting.survivors) for variant in MEASURED}
    variants['ours_all_survive'] = build_step(options, 'ours', classes, num_old)
    seconds = time_in_turns(variants, options, title)
    ours = seconds['ours']['median']
    return {
        'classes_per_task': list(classes),
        'survivors_per_image': survivors_of(options, classes, setting.survivors),
        'survivors_per_image_worst_case': survivors_of(options, classes, num_old),
        'seconds': seconds,
        'peak_memory_bytes': memory,
        'ratio_vs_reference': ours / seconds['reference']['median'],
        'ratio_vs_reference_same_network': ours / seconds['reference_same_network']['median'],
        'ratio_vs_trunk': ours / seconds['trunk']['median'],
        'ratio_vs_trunk_all_survive': seconds['ours_all_survive']['median'] / seconds['trunk']['median'],
        'peak_memory_ratio': _ratio(memory['ours'], memory['reference']),
        'peak_memory_ratio_same_network': _ratio(memory['ours'], memory['reference_same_network']),
        'peak_memory_ratio_vs_trunk': _ratio(memory['ours'], memory['trunk']),
    }


def _ratio(ours: int | None, other: int | None) -> float | None:
    """A ratio of two numbers that may be missing."""
    return ours / other if ours is not None and other else None


def measure_growth(options: Options) -> dict:
    """Seconds of an iteration while the number of old classes grows."""
    points = options.scale.growth
    ours, plain, skipped = {}, {}, []
    for num_old in points:
        classes = (num_old, 1)
        ours[f'ours_{num_old}'] = build_step(options, 'ours', classes, min(GROWTH_SURVIVORS, num_old))
        ours[f'ours_all_survive_{num_old}'] = build_step(options, 'ours', classes, num_old)
    # Apart: what fills the memory once slows down whatever runs next.
    seconds = time_in_turns(ours, options, 'growth')
    for num_old in points:
        needed = TENSORS * 4 * options.scale.batch * (num_old + 3) * options.scale.crop**2
        if needed > free_bytes(options.device):
            skipped.append(f'{num_old} old classes: about {needed / 1e9:.0f} GB needed')
            continue
        variant = f'reference_same_network_{num_old}'
        plain[variant] = build_step(options, 'reference_same_network', (num_old, 1), 0)
    seconds.update(time_in_turns(plain, options, 'growth'))

    def by_classes(variant: str) -> dict[str, dict]:
        return {str(n): seconds[f'{variant}_{n}'] for n in points if f'{variant}_{n}' in seconds}

    kinds = {variant: by_classes(variant) for variant in ('ours', 'ours_all_survive', 'reference_same_network')}
    first, last = str(points[0]), str(points[-1])
    return {
        'survivors_per_image': GROWTH_SURVIVORS,
        'seconds': kinds,
        'reference_skipped': skipped,
        f'ratio_{last}_vs_{first}': kinds['ours'][last]['median'] / kinds['ours'][first]['median'],
        f'ratio_{last}_vs_{first}_all_survive':
            kinds['ours_all_survive'][last]['median'] / kinds['ours_all_survive'][first]['median'],
    }
