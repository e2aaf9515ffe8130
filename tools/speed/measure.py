"""Seconds of variants that take turns, peak memory of one, and the machine."""
import ctypes
import gc
import math
import multiprocessing
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import mmengine
import mmseg
import numpy as np
import torch
from torch import Tensor, nn

from ssul_mmseg.machine import free_memory, usable_cores

from .settings import Options

STATUS = Path('/proc/self/status')
Work = Callable[[], object]


def say(text: str) -> None:
    """Report progress on the error stream."""
    print(text, file=sys.stderr, flush=True)


class Updater:
    """One update of the parameters that learn, by SGD, in mixed precision where asked.

    Args:
        module: what learns.
        options: of the run.
    """

    def __init__(self, module: nn.Module, options: Options) -> None:
        learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(learning, lr=0.01, momentum=0.9, weight_decay=1e-4)
        self.options = options
        self.scaler = torch.amp.GradScaler(options.device, enabled=options.amp == 'fp16')

    def autocast(self) -> torch.autocast:
        """The context of a forward pass."""
        return torch.autocast(self.options.device, self.options.dtype, enabled=self.options.dtype is not None)

    def __call__(self, loss: Callable[[], Tensor]) -> None:
        """Forward pass, backward pass and step."""
        with self.autocast():
            value = loss()
        self.optimizer.zero_grad()
        self.scaler.scale(value).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()


def time_in_turns(variants: Mapping[str, Work], options: Options, title: str) -> dict[str, dict[str, float]]:
    """Time variants in turns (A B A B ...), so that whatever else the machine does meets all of them.

    Args:
        variants: what to run, by name.
        options: of the run.
        title: of the progress lines.

    Returns:
        By name: median, min and max, seconds of one run.
    """
    scale = options.scale
    counts = {}
    for name, work in variants.items():
        seconds = _seconds(work, 1, options.device)
        if seconds < scale.least_seconds or options.device != 'cpu':
            seconds = _seconds(work, 1, options.device)
        counts[name] = max(1, math.ceil(scale.least_seconds / max(seconds, 1e-6))) if scale.least_seconds else 1
        say(f'{title}: {name} takes about {seconds:.4f} s')
    times: dict[str, list[float]] = {name: [] for name in variants}
    for repetition in range(scale.repetitions):
        for name, work in variants.items():
            times[name].append(_seconds(work, counts[name], options.device))
        say(f'{title}: repetition {repetition + 1} of {scale.repetitions}')
    return {name: dict(median=statistics.median(found), min=min(found), max=max(found))
            for name, found in times.items()}


def _seconds(work: Work, count: int, device: str) -> float:
    """Mean seconds of ``count`` runs."""
    _synchronize(device)
    start = time.perf_counter()
    for _ in range(count):
        work()
    _synchronize(device)
    return (time.perf_counter() - start) / count


def _synchronize(device: str) -> None:
    if device != 'cpu':
        torch.cuda.synchronize()


def peak_memory(build: Callable[..., Work], *args: object, device: str = 'cpu') -> int | None:
    """Peak memory of one run of ``build(*args)``, with what it was built of.

    Args:
        build: a module's function; what it returns is run.
        *args: its arguments.
        device: 'cpu': resident memory beyond the libraries, of a first run in a fresh process; 'cuda': memory that
            tensors took on the GPU, of a second run in this process, as PyTorch counts them.

    Returns:
        Bytes; None where the system does not report it (other than Linux, or a locked container).
    """
    if device != 'cpu':
        return _peak_of_tensors(build, args)
    return _peak_of_process(build, args) if STATUS.is_file() else None


def _peak_of_tensors(build: Callable[..., Work], args: Iterable) -> int:
    """Most bytes that tensors of one run took on the GPU."""
    # The libraries' workspaces stay once they are there: they must not count for the first variant alone.
    _load_libraries('cuda')
    _free_unused()
    start = torch.cuda.memory_allocated()
    work = build(*args)
    work()  # cuDNN tries its algorithms at a first run, some with gigabytes of workspace
    _free_unused()
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated() - start


def _peak_of_process(build: Callable[..., Work], args: Iterable) -> int | None:
    """Most bytes that one run held resident in a fresh process."""
    # Forked from a server that has never computed: a fork of this process would inherit its idle OpenMP threads.
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([__name__, build.__module__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_peak, args=(sender, build, args))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return None
    finally:
        process.join()


def _send_peak(sender: multiprocessing.connection.Connection, build: Callable[..., Work], args: Iterable) -> None:
    """Send the peak memory of one run."""
    _load_libraries('cpu')
    # What is freed must not hide what running takes, nor count as it.
    _free_unused()
    start = _resident('VmRSS')
    work = build(*args)
    _free_unused()
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        sender.send(None)
        return
    work()
    sender.send(_resident('VmHWM') - start)


def _free_unused() -> None:
    """Give memory that nothing uses back to the system."""
    gc.collect()
    getattr(ctypes.CDLL(None), 'malloc_trim', lambda pad: None)(0)


def _load_libraries(device: str) -> None:
    """Use once what loads more code at its first use: convolution, interpolation, backward pass, SGD."""
    layer = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Upsample(scale_factor=2, mode='bilinear'))
    layer.to(device)
    optimizer = torch.optim.SGD(layer.parameters())
    nn.functional.softplus(layer(torch.randn(2, 3, 16, 16, device=device))).sum().backward()
    optimizer.step()


def _resident(field: str) -> int:
    """A field of the process's status, bytes."""
    found = re.findall(rf'{field}:\s+(\d+)', STATUS.read_text())
    return int(found[0]) * 1024


def free_bytes(device: str) -> int:
    """Bytes that can still be taken."""
    return free_memory() if device == 'cpu' else torch.cuda.mem_get_info()[0]


def machine(device: str) -> dict:
    """The machine, the versions and the date, for the record of what was measured on a device."""
    names = re.findall(r'model name\s*: (.+)', _text('/proc/cpuinfo'))
    return {
        'date': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
        'cpu': names[0] if names else platform.processor() or platform.machine(),
        'cores': usable_cores(),
        'threads': torch.get_num_threads(),
        'gpu': torch.cuda.get_device_name() if device != 'cpu' else None,
        'versions': {'python': platform.python_version(), 'torch': torch.__version__, 'mmengine': mmengine.__version__,
                     'mmseg': mmseg.__version__, 'numpy': np.__version__},
    }


def _text(path: str) -> str:
    """Content of a file of the system, empty where there is none."""
    return Path(path).read_text() if Path(path).is_file() else ''
