"""The one error type for mistakes of users, and for faults of the machine that they have to mend."""
import contextlib
from collections.abc import Iterator
from pathlib import Path

# Parts of the messages of Python, of PyTorch on a CPU and of PyTorch on a GPU when memory is full.
OUT_OF_MEMORY = ('MemoryError', "can't allocate memory", 'out of memory')


class InputError(ValueError):
    """Bad input, reported in one sentence: what is wrong, where, and what to do about it.

    The command-line tools print the sentence and end with exit code 2; a traceback would only hide it.
    """

    reported = False
    """Whether another process reports it, so that this one stays silent."""

    @property
    def sentence(self) -> str:
        """The sentence alone; a data-loader worker wraps it into a traceback, which this takes off again."""
        return ' '.join(str(self).rpartition(f'{type(self).__name__}: ')[2].split())

    @property
    def fault(self) -> str:
        """What is wrong and where, without what to do about it: a run that mends the fault itself reports only this."""
        return self.sentence.partition(';')[0]


def is_out_of_memory(fault: str) -> bool:
    """Whether the message of an error says that memory is full."""
    return any(sign in fault for sign in OUT_OF_MEMORY)


@contextlib.contextmanager
def machine_faults(folder: str | Path) -> Iterator[None]:
    """Turn faults of the machine (disk, memory, a killed worker) into errors of one sentence.

    Args:
        folder: where the run writes.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f'{error.filename or f"a file in {folder}"} cannot be read or written '
                         f'({error.strerror or error}); what was saved before is whole: free space or repair it, then '
                         'run again with --resume') from error
    except (MemoryError, RuntimeError) as error:
        fault = (str(error) or 'MemoryError').strip().splitlines()[0]
        if fault.startswith('DataLoader worker'):
            raise InputError(f'a process that loads images died ({fault}), most often for lack of memory; free some or '
                             'lower train_dataloader.num_workers, then run again with --resume') from error
        if is_out_of_memory(fault):
            raise InputError(f'memory is full ({fault}); free some or lower feature_cache.limit, then run again with '
                             '--resume, or start in another --work-dir with a lower train_dataloader.batch_size'
                             ) from error
        raise
