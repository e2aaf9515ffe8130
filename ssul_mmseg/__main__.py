"""The command ``ssul``, or ``python -m ssul_mmseg``: it hands the words after a command's name to that command."""
import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from . import cli
from .errors import InputError

COMMANDS = ('train', 'test', 'predict', 'report', 'picture', 'compare', 'sweep', 'add-class', 'adopt', 'export',
            'new-dataset', 'check-data', 'browse-labels', 'make-saliency', 'configs')


def main() -> None:
    """Run the command that is named first."""
    given = sys.argv[1:]
    if given and given[0] in COMMANDS:
        module = module_of(given[0])
        # The command sees its own words alone, and calls itself by this name in its messages.
        sys.argv = [f'ssul {given[0]}', *given[1:]]
        cli.run(module.main, getattr(module, 'resume_command', None))
    else:
        cli.run(_answer)


def module_of(command: str) -> ModuleType:
    """The module of a command."""
    return import_module(f'.commands.{command.replace("-", "_")}', __package__)


def _answer(argv: Sequence[str] | None = None) -> None:
    """Answer a call without the name of a command in the first place.

    Raises:
        InputError: there is no such command, or something stands before it.
    """
    summaries = {command: (module_of(command).__doc__ or '').partition(': ssul')[0] for command in COMMANDS}
    listed = '\n'.join(f'  {command:15}{summary}' for command, summary in summaries.items())
    parser = cli.Parser('Learn classes task by task: ssul train ssul/shapes_4-1_m', 'ssul',
                        f'commands:\n{listed}\n\nssul COMMAND --help shows the options of a command.')
    parser.add_argument('command', metavar='COMMAND', help='one of those below')
    command = parser.parse_known_args(argv)[0].command
    if command in COMMANDS:
        raise InputError(f'the options of ssul {command} stand before its name; write them after it')
    near = difflib.get_close_matches(command, COMMANDS, 1)
    hint = f'did you mean ssul {near[0]}?' if near else 'see ssul --help'
    raise InputError(f'there is no command {command}; {hint}')


if __name__ == '__main__':
    main()
