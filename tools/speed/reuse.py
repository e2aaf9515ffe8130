"""What it saves to reuse freed memory: iterations of some methods without and with it."""
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from ssul_mmseg.machine import reused_memory

from .measure import Work, time_in_turns
from .methods import YARDSTICK, method_configs, start_method
from .settings import Options

METHODS = (YARDSTICK, 'mib', 'ssul')
ITERATIONS = 5
"""Of each run: the first of them still fills new pages."""
REUSED = ', reused'


def repeat(iteration: Work, context: Callable[[], AbstractContextManager]) -> None:
    """Run some iterations in a context."""
    with context():
        for _ in range(ITERATIONS):
            iteration()


def measure_reuse(options: Options) -> dict:
    """Seconds of some iterations of each method without and with ``reused_memory``."""
    configs = method_configs(options)
    variants: dict[str, Work] = {}
    for name in METHODS:
        iteration = start_method(options, configs[name])
        variants[name] = partial(repeat, iteration, nullcontext)
        variants[name + REUSED] = partial(repeat, iteration, reused_memory)
    seconds = time_in_turns(variants, options, 'reuse')
    return {
        'config': options.scale.config,
        'iterations': ITERATIONS,
        'seconds': seconds,
        'speedup': {name: seconds[name]['median'] / seconds[name + REUSED]['median'] for name in METHODS},
    }
