"""What the command-line tools share: they parse arguments here and report errors in one sentence.

Only the functions that need PyTorch and mmseg import them, so that ``--help`` and the tools that only read results
start in a fraction of a second.
"""
import argparse
import ast
import contextlib
import gc
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Never

from . import __version__
from .config_files import find
from .errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config

TRACEBACK = '--traceback'
# Numbers as people write them. 007 and 2012_13 are names, although Python reads the second as a number.
NUMBER = re.compile(r'\s*[+-]?((0|[1-9][0-9]{0,999})(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?\s*|\s*[+-]?(inf|nan)\s*', re.I)
QUOTED = re.compile(r'"[^"]*"|\'[^\']*\'')
GROUPED_DIGITS = re.compile(r'[0-9]_[0-9]')
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


class Options(argparse.Action):
    """Gather KEY=VALUE arguments in a dict; see :func:`parse_value`."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
                 values: str | Sequence[Any] | None, option_string: str | None = None) -> None:
        """Parse the values into a dict."""
        options = dict(getattr(namespace, self.dest) or {})
        for argument in values or ():
            key, equals, text = argument.partition('=')
            if not equals:
                parser.error(f'{option_string} {argument} has no value; give KEY=VALUE')
            try:
                options[key] = parse_value(text)
            except ValueError as error:
                parser.error(f'{option_string} {argument} cannot be read ({error}); write lists as [1,2], and text '
                             'with such characters in quotes of its own')
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """Turn the text of an option into a value: numbers, True, False, None, [lists], (tuples); else the text as it is.

    Text keeps its spaces and commas. Quotes around a whole value are taken off. In a list, names need no quotes and
    spaces around an item do not count. Numbers may be listed without brackets.

    Raises:
        ValueError: brackets or quotes do not close.

    Example:
        >>> [parse_value(text) for text in ('0.5', '1e-4', 'None', '[cat, 3]', '2012_13', "'7'")]
        [0.5, 0.0001, None, ['cat', 3], '2012_13', '7']
    """
    if NUMBER.fullmatch(text):
        return float(text) if set(text.lower()) & set('.ena') else int(text)
    # literal_eval would read 2012_13 as a number, and ... as Ellipsis.
    if not GROUPED_DIGITS.search(QUOTED.sub('', text)):
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            value = ast.literal_eval(text)
            if isinstance(value, tuple) and not text.strip().startswith('('):
                return list(value)
            if isinstance(value, str | list | tuple | dict | bool | None):
                return value
    if text.lower() in ('true', 'false'):
        return text.lower() == 'true'
    for start, end, kind in (('[', ']', list), ('(', ')', tuple)):
        if text.startswith(start):
            if not text.endswith(end) or len(text) > 10_000:
                raise ValueError(f'a list that begins with {start} ends with {end}')
            return kind(parse_value(item.strip()) for item in _items(text[1:-1]))
    return text


def _items(text: str) -> list[str]:
    """Cut the inside of a list at its commas, but not inside an item's brackets or quotes."""
    items, depth, quote = [''], 0, ''
    for character in text:
        if quote:
            quote = '' if character == quote else quote
        elif character in '"\'':
            quote = character
        depth += (character in '([') - (character in ')]')
        if character == ',' and not depth and not quote:
            items.append('')
        else:
            items[-1] += character
    if depth or quote:
        raise ValueError('a bracket or a quote does not close')
    return items if text.strip() else []


def option_text(value: Any) -> str:
    """A value as :func:`parse_value` reads it back."""
    return value if isinstance(value, str) and parse_value(value) == value else repr(value)


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line and exits with code 2; it has ``--version``.

    Args:
        description: what the tool does, its docstring.
        prog: its name; default: that of the script.
        epilog: what stands below its options, as it is.
    """

    def __init__(self, description: str | None = None, prog: str | None = None, epilog: str | None = None) -> None:
        shape = argparse.RawDescriptionHelpFormatter if epilog else argparse.HelpFormatter
        super().__init__(prog, description=description, epilog=epilog, formatter_class=shape)
        self.add_argument('--version', action='version', version=f'ssul_mmseg {__version__}')
        self.add_argument(TRACEBACK, action='store_true', help='show where in the code an error comes from')

    def error(self, message: str) -> Never:
        """Print the mistake and end the program."""
        self.exit(2, f'error: {message}; see {self.prog} --help\n')


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add the argument that changes values of the config."""
    parser.add_argument('--cfg-options', nargs='+', action=Options, default={}, metavar='KEY=VALUE',
                        help='config values to change, such as model.tau=0.8')


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every tool that runs a config in one or several processes."""
    add_config_options(parser)
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none',
                        help='how the processes were started, pytorch by torchrun')
    # torch.distributed.launch passes it; torchrun sets LOCAL_RANK.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def configure(args: argparse.Namespace) -> 'Config':
    """Read the config of parsed arguments, set its work dir, and join the process group if a launcher made one."""
    if args.launcher == 'none':
        find(args.config)  # a wrong name is reported before PyTorch is loaded, which takes seconds
    from .engine.launch import LOCAL_RANKS, first_of, start_processes
    from .options import read_config
    if 'LOCAL_RANK' not in os.environ:
        os.environ['LOCAL_RANK'] = os.environ.get(LOCAL_RANKS.get(args.launcher, ''), str(args.local_rank))
    try:
        cfg = read_config(args.config, args.cfg_options)
    except InputError as error:
        error.reported = not first_of(args.launcher)  # all processes read the same config
        raise
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or default_work_dir(str(cfg.filename))
    cfg.launcher = args.launcher
    start_processes(args.launcher)
    return cfg


def run(main: Callable[[Sequence[str] | None], None], resume_command: Callable[[], str] | None = None) -> None:
    """Run a tool's ``main``: a user's mistake ends it with a sentence and exit code 2, Ctrl-C and SIGTERM with 130."""
    signal.signal(signal.SIGTERM, _interrupt)
    # Whatever is imported stays: collecting garbage need not look through it again and again.
    gc.freeze()
    # A file name may hold bytes that are no text, or characters that the terminal cannot print.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
    code = 0
    try:
        main(None)
        sys.stdout.flush()
    except InputError as error:
        if TRACEBACK in sys.argv:
            traceback.print_exc()
        code = _fail('' if error.reported else f'error: {error.sentence}', 2)
    except KeyboardInterrupt:
        hint = f'; go on with: {resume_command()}' if resume_command else ''
        code = _fail(f'stopped{hint}' if is_main_process() else '', 130)
    except BrokenPipeError:  # whoever read the output has read enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        _leave_processes()
    if code:
        sys.exit(code)


def is_main_process() -> bool:
    """Whether this process reports for all; before the process group exists, every process reports."""
    distributed = sys.modules.get('torch.distributed')
    return distributed is None or not distributed.is_initialized() or distributed.get_rank() == 0


def _leave_processes() -> None:
    """Leave the process group, if this run has joined one."""
    if 'ssul_mmseg.engine.launch' in sys.modules:
        sys.modules['ssul_mmseg.engine.launch'].leave_processes()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Treat SIGTERM as Ctrl-C."""
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> int:
    """Write a message, if there is one, to the error stream, and return the exit code."""
    if message:
        print(f'\n{message}' if sys.stderr.isatty() else message, file=sys.stderr)
    return code


def default_work_dir(config: str) -> str:
    """``work_dirs/<folder>/<config>``: configs of different methods share names."""
    path = Path(config)
    return str(Path('work_dirs', path.parent.name, path.stem))
