"""Work with several processes: let one work for all, unwrap the model, lock a work dir against a second run."""
import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.model import is_model_wrapper
from torch import nn

from ..errors import InputError
from ..models.segmentors import IncrementalSegmentor

T = TypeVar('T')


def unwrap(model: nn.Module) -> IncrementalSegmentor:
    """The model without its distributed wrapper."""
    return cast(IncrementalSegmentor, model.module if is_model_wrapper(model) else model)


@contextlib.contextmanager
def lock_work_dir(work_dir: str) -> Iterator[None]:
    """Keep a second run out of a work dir.

    The lock ends with its process, even a killed one: unlike a ``flock``, no worker process inherits it.
    """
    try:
        os.makedirs(work_dir, exist_ok=True)
        lock = os.open(Path(work_dir) / '.lock', os.O_CREAT | os.O_WRONLY)
    except OSError as error:
        raise InputError(f'work dir {work_dir} cannot be written ({error.strerror}); choose another '
                         '--work-dir') from error
    try:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f'another run is at work in {work_dir}; wait for it, or choose another '
                             '--work-dir') from error
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def on_main_process_only(manager: Callable[[], contextlib.AbstractContextManager]) -> Iterator[None]:
    """Enter a context on the main process; if that fails, all processes raise its error."""
    with contextlib.ExitStack() as stack:
        on_main_process(lambda: stack.enter_context(manager()))
        yield


def on_main_process(work: Callable[[], T]) -> T:
    """Do something on the main process alone; all processes get its result or raise its :class:`InputError`."""
    outcome: list = [None, None]
    if is_main_process():
        try:
            outcome[0] = work()
        except InputError as error:
            outcome[1] = str(error)
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        fault = InputError(outcome[1])
        fault.reported = not is_main_process()
        raise fault
    return outcome[0]
