"""Runs benchmarks by name and writes their document."""
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from ssul_mmseg.errors import InputError
from ssul_mmseg.work_dir.files import write_json, write_text

from . import NAMES
from .base import measure_base
from .data import measure_index
from .evaluate import measure_evaluate
from .measure import machine
from .methods import measure_methods
from .report import DEFINITIONS, markdown
from .reuse import measure_reuse
from .settings import Options
from .shell import measure_shell
from .step import measure_growth, measure_step
from .task import measure_task

BENCHMARKS: dict[str, Callable[[Options], dict]] = {
    'step': measure_step, 'growth': measure_growth, 'task': measure_task, 'base': measure_base,
    'index': measure_index, 'evaluate': measure_evaluate, 'shell': measure_shell, 'methods': measure_methods,
    'reuse': measure_reuse,
}


def run_benchmarks(names: Sequence[str], options: Options, out: str | Path) -> dict:
    """Run benchmarks and write ``benchmark.json`` and ``benchmark.md``, again after each.

    Args:
        names: some of :data:`NAMES`.
        options: of the run.
        out: the folder to write to.

    Returns:
        The document: 'machine', 'options', 'definitions', and the results under each name.

    Raises:
        InputError: there is no such benchmark, or the folder cannot be written to.
    """
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise InputError(f'there is no benchmark {unknown[0]!r}; choose some of {", ".join(NAMES)}')
    if options.device != 'cpu':
        torch.backends.cudnn.benchmark = True
    document = {
        'machine': machine(options.device),
        'options': {'device': options.device, 'amp': options.amp, **asdict(options.scale)},
        'definitions': DEFINITIONS,
    }
    # Before the first as well: a folder that cannot be written must not cost its minutes.
    _write(document, Path(out))
    for name in dict.fromkeys(names):
        document[name] = BENCHMARKS[name](options)
        _write(document, Path(out))
    return document


def _write(document: dict, out: Path) -> None:
    """Write the document in both forms."""
    write_json(out / 'benchmark.json', document)
    write_text(out / 'benchmark.md', markdown(document))
