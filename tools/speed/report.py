"""The benchmark's document as Markdown."""
from collections.abc import Iterable, Mapping

from ssul_mmseg.evaluation.tables import table

DEFINITIONS = {
    'ratio_vs_*': 'seconds or memory of ours divided by those of the other: below 1 is better',
    'speedup_*': 'seconds of the other divided by ours: above 1 is better',
    'reference': "the plain formulation: two networks, the authors' classifier (a 3x3 convolution per task), all "
                 'logits at full resolution, one-hot targets, default memory layout',
    'reference_same_network': 'the plain formulation with our classifier (1x1) and memory layout (channels-last)',
    'trunk': "the forward pass of backbone and ASPP alone, in our memory layout: what no formulation can avoid",
    'ours_all_survive': 'the worst case: every old class exceeds tau in every image',
    'seconds': 'median, least and most of the repetitions, variants in turns; images in memory, loading not included',
    'peak_memory_bytes': 'networks included; CPU: resident beyond the libraries, in a process of its own; GPU: tensors',
    'task': 'extrapolated from measured iterations: visits x seconds per image',
    'newton, analytic': 'a solved task: every image passes the trunk once, extrapolated from measured passes, and '
                        'becomes cells (for both those of newton, pseudo-labels included); then all cells are solved',
    'solution': "measured on all of the task's cells, which are kept; their features have noise instead of photographs",
    'cached': "SGD on kept features, the paper's procedure",
}


def markdown(document: Mapping) -> str:
    """The document as Markdown: machine, one section per benchmark, definitions."""
    machine, options = document['machine'], document['options']
    versions = ', '.join(f'{name} {version}' for name, version in machine['versions'].items())
    device = machine['gpu'] or f'{machine["cpu"]}, {machine["cores"]} cores, {machine["threads"]} threads'
    lines = [
        '# Benchmark', '', f'{machine["date"]}; {device}; {versions}.', '',
        f'{options["network"]}, crop {options["crop"]}, batch {options["batch"]}, mixed precision: {options["amp"]}, '
        f'{options["repetitions"]} repetitions, median.', '',
    ]
    for name, section in SECTIONS.items():
        if name in document:
            lines += [f'## {name}', '', *section(document[name]), '']
    lines += ['## Definitions', '', *(f'- `{name}`: {text}.' for name, text in document['definitions'].items())]
    return '\n'.join(lines) + '\n'


def _step(result: Mapping) -> list[str]:
    """Both settings, a table each."""
    lines = []
    for setting, found in result.items():
        old = sum(found['classes_per_task'][:-1])
        lines += [
            f'{setting}: {old} old classes in {len(found["classes_per_task"]) - 1} tasks, '
            f'{found["classes_per_task"][-1]} new; {_list(found["survivors_per_image"])} old classes an image exceed '
            f'tau ({_list(found["survivors_per_image_worst_case"])} in the worst case).', '',
            *_table(('variant', 's / iteration', 'min', 'max', 'ours / variant', 'peak memory, MB'), (
                (name, *_times(seconds), _number(found['seconds']['ours']['median'] / seconds['median']),
                 _megabytes(found['peak_memory_bytes'].get(name)))
                for name, seconds in found['seconds'].items())), '',
        ]
    return lines[:-1]


def _growth(result: Mapping) -> list[str]:
    """Seconds by number of old classes."""
    kinds = result['seconds']
    rows = []
    for classes in kinds['ours']:
        found = [kind.get(classes) for kind in kinds.values()]
        rows.append((classes, *(_number(seconds['median']) if seconds else 'skipped' for seconds in found)))
    skipped = [f'Left out for lack of memory: {"; ".join(result["reference_skipped"])}.'
               ] if result['reference_skipped'] else []
    return [
        f'{result["survivors_per_image"]} old classes an image exceed tau; s / iteration.', '',
        *_table(('old classes', *kinds), rows), '',
        *(f'{key}: {_number(value)}.' for key, value in result.items() if key.startswith('ratio_')), *skipped,
    ]


def _task(result: Mapping) -> list[str]:
    """Each setting's task."""
    lines = []
    for setting, found in result.items():
        seconds, solution = found['seconds_per_task'], found['solution']
        others = 'reference', 'reference_same_network', 'cached'
        rows = [(name, f'{value:.1f}', *(_number(seconds[other] / value) for other in others))
                for name, value in seconds.items()]
        lines += [
            f'{setting}: {found["images"]} images, {found["epochs"]} epochs, batch {found["batch_size"]}, '
            f'{found["views"]} views: {found["visits"]} visits, {found["first_visits"]} of them the first of a view, '
            f'{found["trunk_passes"]} passes of the trunk with the cache; solved tasks pass it once an image. '
            f'Extrapolated from iterations of batch {found["measured_batch_size"]}.', '',
            *_table(('variant', 's / task', *(f'speed-up over {name}' for name in others)), rows), '',
            f'Solutions of {solution["cells"]} cells, measured; newton takes {solution["newton_steps"]} steps.', '',
            *_solutions(found['seconds_of_solution'], solution), '', *_targets(found['targets']), '',
        ]
    return lines[:-1]


def _solutions(seconds: Mapping, solution: Mapping) -> list[str]:
    """What the solutions of a task cost."""
    growth, memory = solution['growth'], solution['memory_bytes']
    few, *more = growth['old_classes']
    rows = []
    for method, times in seconds.items():
        grown = growth['seconds'][method]
        rows.append((
            method, *_times(times), _percent(solution['share_of_task'][method]),
            *(_number(grown[case]['median'] / grown[few]['median']) for case in more),
            *(_megabytes(memory[method][key]) for key in ('before', 'peak', 'added'))))
    return _table((
        'solution', 's', 'min', 'max', 'of the task', *(f'{case} old classes / {few}' for case in more),
        'network and cells, MB', 'peak, MB', 'added, MB'), rows)


def _targets(targets: Iterable[Mapping]) -> list[str]:
    """What was measured beside what it was to be."""
    words = {True: 'reached', False: 'MISSED', None: 'not measured'}
    rows = []
    for found in targets:
        aim = f'at least {found["least"]:g}' if found['least'] is not None else f'at most {found["most"]:g}'
        rows.append((found['what'], '-' if found['value'] is None else _number(found['value']), aim,
                     words[found['met']]))
    return _table(('what', 'measured', 'target', ''), rows)


def _base(result: Mapping) -> list[str]:
    """Training speed."""
    speed = result['images_per_second']
    return _table(('variant', 'images / s', 'seconds, ours / variant'), (
        (name, _number(value), _number(value / speed['ours'])) for name, value in speed.items()))


def _index(result: Mapping) -> list[str]:
    """Scan, load, and the simulated data set."""
    simulated, size = result['simulated'], result['mask_size']
    memory = simulated['peak_memory_bytes']
    return [
        f'{result["masks"]} masks ({result["distinct_masks"]} files, repeated) of {size[1]} x {size[0]} pixels; '
        f'simulated: {simulated["images"]} images x {simulated["values"]} values, {_megabytes(simulated["bytes"])} MB, '
        f'peak {_megabytes(memory["load"])} MB to load, {_megabytes(memory["load_and_queries"])} MB with queries.', '',
        *_table(('what', 's', 'min', 'max'), ((name, *_times(times)) for name, times in result['seconds'].items())),
        '', f'{result["masks_per_second"]:.0f} masks / s.',
    ]


def _evaluate(result: Mapping) -> list[str]:
    """Evaluation time."""
    return [
        *_table(('features', 's / image', 'min', 'max'), (
            (name, *_times(times)) for name, times in result['seconds_per_image'].items())),
        '', f'{result["setting"]}: cached features are {_number(result["speedup_cached"])} times as fast.',
    ]


def _shell(result: Mapping) -> list[str]:
    """Whole commands."""
    rows = ((name, *_times(times), _number(times['processor'])) for name, times in result['seconds'].items())
    return [
        'Commands on the embedded data set, 4-1, from a learned task 0: from the shell to the table (tasks), or to the '
        f'finished weights (a class, {result["added_images"]} images); `processor`: seconds of all cores.', '',
        *_table(('command', 's', 'min', 'max', 'processor, s'), rows), '', *_targets(result['targets']),
    ]


def _methods(result: Mapping) -> list[str]:
    """Every method's iteration."""
    rows = []
    for name, times in result['seconds'].items():
        memory = result['peak_memory_vs_fine_tuning'][name]
        rows.append((
            name, *_times(times), _number(result['seconds_vs_fine_tuning'][name]),
            _megabytes(result['peak_memory_bytes'][name]), '-' if memory is None else _number(memory),
            'learns' if name in result['trunk_learns'] else 'frozen'))
    solved = f'Solved instead of trained, see `task`: {_list(result["solved"])}. ' if result['solved'] else ''
    return [
        f'An iteration of task 1 of `configs/<method>/{result["config"]}.py` (of joint training: of its only task). '
        f'{solved}Images pass the network: what the feature cache saves a frozen trunk is in `task`.', '',
        *_table(('method', 's / iteration', 'min', 'max', '/ fine_tuning', 'peak memory, MB', '/ fine_tuning', 'trunk'),
                rows), '', *_targets(result['targets']),
    ]


def _reuse(result: Mapping) -> list[str]:
    """Seconds of some iterations without and with reused memory."""
    rows = [(name, *_times(times), _number(result['speedup'][name]) if name in result['speedup'] else '')
            for name, times in result['seconds'].items()]
    return [
        f'{result["iterations"]} iterations of task 1 of `configs/<method>/{result["config"]}.py`, as the system gives '
        'memory, and with what is freed reused, as in a run.', '',
        *_table(('method', 's', 'min', 'max', 'as given / reused'), rows),
    ]


SECTIONS = {
    'step': _step, 'growth': _growth, 'task': _task, 'base': _base, 'index': _index, 'evaluate': _evaluate,
    'shell': _shell, 'methods': _methods, 'reuse': _reuse}


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a Markdown table, numbers to the right."""
    return table(list(head), [list(row) for row in rows]).splitlines()


def _times(times: Mapping[str, float]) -> tuple[str, ...]:
    """Median, least and most seconds."""
    return tuple(_number(times[key]) for key in ('median', 'min', 'max'))


def _number(value: float) -> str:
    """Three significant digits."""
    return f'{value:.0f}' if value >= 1000 else f'{value:.3g}'


def _percent(share: float) -> str:
    """A share in percent, three significant digits."""
    return f'{_number(100 * share)} %'


def _megabytes(size: int | None) -> str:
    """Bytes as MB (10^6 bytes)."""
    return '-' if size is None else f'{size / 1e6:.0f}'


def _list(values: Iterable[object]) -> str:
    """Values, separated by commas."""
    return ', '.join(map(str, values))
