"""The one error type that users meet."""


class InputError(ValueError):
    """Bad input, told in one sentence: what is wrong, where, and what to do about it.

    The command-line tools print the sentence and end with exit code 2; a traceback would only hide it.
    """

    @property
    def sentence(self) -> str:
        """The sentence alone, also where a data-loader worker has wrapped it into its own traceback."""
        return str(self).rstrip().rpartition(f'{type(self).__name__}: ')[2]
