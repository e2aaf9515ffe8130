"""Work with several processes: let one work for all, unwrap the model."""
import contextlib
from collections.abc import Callable, Iterator
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
def on_main_process_only(manager: Callable[[], contextlib.AbstractContextManager]) -> Iterator[None]:
    """Enter a context on the main process; if that fails, all processes raise its error."""
    with contextlib.ExitStack() as stack:
        on_main_process(lambda: stack.enter_context(manager()))
        yield


def on_main_process(work: Callable[[], T]) -> T:
    """Do something on the main process alone; all processes get its result or raise its :class:`.InputError`."""
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
