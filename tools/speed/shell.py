"""Whole commands on the embedded data set, from the shell to their result, each a process of its own."""
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ssul_mmseg.errors import InputError
from ssul_mmseg.scenario import BACKGROUND, IGNORE

from .measure import say
from .settings import Options
from .targets import target

BASE = 'configs/analytic/shapes_4-1.py'
"""Whose task 0 SSUL can start from too."""
TRAIN = {
    'newton, tasks 1 to 4': 'configs/ssul/shapes_4-1_newton.py',
    'analytic, tasks 1 to 4': BASE,
    'sgd, tasks 1 to 4': 'configs/ssul/shapes_4-1.py',
}
ADD = {'newton, a class added': 'configs/ssul/shapes_4-1.py', 'analytic, a class added': BASE}
SOLVED = [name for name in TRAIN if not name.startswith('sgd')]
MOST_SECONDS_OF_TASKS, MOST_SECONDS_OF_CLASS = 30, 10
RING = 5
"""Value of the class that is added: the first that the base task has not learned."""
ADDED_IMAGES = 60
REPETITIONS = 3
"""At most: a round takes minutes."""


def ring_images(shapes: Path, folder: Path, most: int = ADDED_IMAGES) -> int:
    """Copy training images with a ring, and masks that mark nothing else (docs/own_data.md).

    Args:
        shapes: the embedded data set.
        folder: where to make the folders images and masks.
        most: number of images, at most.

    Returns:
        How many there are.
    """
    images, masks = folder / 'images', folder / 'masks'
    images.mkdir(parents=True)
    masks.mkdir()
    count = 0
    for path in sorted((shapes / 'SegmentationClass').glob('train_*.png')):
        values = np.array(Image.open(path))
        if RING not in values or count == most:
            continue
        Image.fromarray(np.where(np.isin(values, (RING, IGNORE)), values, BACKGROUND)).save(masks / path.name)
        photograph = shapes / 'JPEGImages' / f'{path.stem}.jpg'
        (images / photograph.name).write_bytes(photograph.read_bytes())
        count += 1
    return count


def run_command(root: Path, tool: str, *arguments: object) -> tuple[float, float]:
    """Run a tool of the project.

    Args:
        root: the checkout.
        tool: its file in tools/.
        arguments: of the command line.

    Returns:
        Seconds by the clock, and seconds of the processor, user and system.

    Raises:
        InputError: the command failed.
    """
    command = [sys.executable, f'tools/{tool}', *map(str, arguments)]
    before, start = _processor_seconds(), time.perf_counter()
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start, _processor_seconds() - before
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ['no message']
        raise InputError(f'{shlex.join(command)} ended with code {done.returncode}: {last[0]}')
    return seconds


def _processor_seconds() -> float:
    """Of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def take_turns(commands: Mapping[str, Callable[[Path], tuple[float, float]]], folder: Path,
               repetitions: int) -> dict[str, dict[str, float]]:
    """Run commands in turns, each time in a new folder.

    Args:
        commands: by name; each gets the folder for its work dir, which does not exist yet, and gives seconds by the
            clock and of the processor.
        folder: for all of them.
        repetitions: of each.

    Returns:
        By name: median, min and max seconds by the clock, and the median of the processor's.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for repetition in range(repetitions):
        for place, (name, command) in enumerate(commands.items()):
            found[name].append(command(folder / f'{repetition}_{place}'))
            say(f'shell: {name} took {found[name][-1][0]:.1f} s ({repetition + 1} of {repetitions})')
    times = {}
    for name, pairs in found.items():
        clock, processor = zip(*pairs, strict=True)
        times[name] = dict(median=statistics.median(clock), min=min(clock), max=max(clock),
                           processor=statistics.median(processor))
    return times


def measure_shell(options: Options) -> dict:
    """Seconds of tasks 1 to 4 from a learned task 0 to the table, and of a class that is added."""
    root, changes = options.configs.parent, options.scale.shell_options
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, shapes = folder / 'base', folder / 'shapes'
        common = ['--seed', 0, '--cfg-options', f'data_root={shapes}', *changes]
        _, processor = run_command(root, 'train.py', BASE, '--work-dir', base, '--tasks', 0, *common)
        say(f'shell: task 0 is learned, {processor:.0f} s of the processor')
        images = ring_images(shapes, folder / 'rings')

        def tasks(config: str) -> Callable[[Path], tuple[float, float]]:
            return lambda out: run_command(
                root, 'train.py', config, '--work-dir', out, '--start-from', base, *common)

        def added(config: str) -> Callable[[Path], tuple[float, float]]:
            rings = [folder / 'rings' / kind for kind in ('images', 'masks')]
            return lambda out: run_command(
                root, 'add_class.py', base, *rings, '--name', 'ring', '--out', out, '--config', config,
                '--cfg-options', f'data_root={shapes}', *_of_network(changes))

        commands = {**{name: tasks(config) for name, config in TRAIN.items()},
                    **{name: added(config) for name, config in ADD.items()}}
        seconds = take_turns(commands, folder, min(REPETITIONS, options.scale.repetitions))
    return dict(added_images=images, seconds=seconds, targets=shell_targets(seconds))


def _of_network(changes: Sequence[str]) -> list[str]:
    """The options that a call has too that adds a class, whose data are its own."""
    return [change for change in changes if change.startswith(('model.', 'crop_size'))]


def shell_targets(seconds: Mapping[str, Mapping[str, float]]) -> list[dict]:
    """What the commands were to take at most, by the clock."""
    limits = [*((name, MOST_SECONDS_OF_TASKS) for name in SOLVED), *((name, MOST_SECONDS_OF_CLASS) for name in ADD)]
    return [target(f'{name}: seconds from the shell to the result', seconds[name]['median'], most=most)
            for name, most in limits]
