"""The one error type that users meet."""
import contextlib
from collections.abc import Iterator


class InputError(ValueError):
    """Bad input, told in one sentence: what is wrong, where, and what to do about it.

    The command-line tools print the sentence and end with exit code 2; a traceback would only hide it.
    """

    @property
    def sentence(self) -> str:
        """The sentence alone, also where a data-loader worker has wrapped it into its own traceback."""
        return str(self).rstrip().rpartition(f'{type(self).__name__}: ')[2]

    @property
    def fault(self) -> str:
        """What is wrong and where, without what to do about it: for a message of a run that helps itself."""
        return self.sentence.partition(';')[0]


@contextlib.contextmanager
def machine_faults_told() -> Iterator[None]:
    """Tell in a sentence what a machine does to a run: a file it cannot read or write, a worker process it kills."""
    try:
        yield
    except OSError as error:
        raise InputError(f'{error.filename or "a file"} cannot be read or written ({error.strerror or error}); what was '
                         'saved before is whole: free space or repair it, then run again with --resume') from error
    except RuntimeError as error:
        if not str(error).startswith('DataLoader worker'):
            raise
        raise InputError(f'a process that loads images died ({str(error).strip(" .")}), most often for lack of memory; '
                         'free some or lower train_dataloader.num_workers, then run again with --resume') from error
