"""See what the data of a config hold before any training: ssul check-data ssul/voc_15-1."""
import tempfile
from collections.abc import Sequence

from .. import cli
from ..errors import InputError

SHOWN = 5
"""Faults of one kind that are listed where there are many."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print images, classes, tasks and sizes, and all faults.

    Raises:
        InputError: a training would fail.
    """
    parser = cli.Parser(description=__doc__)
    parser.add_argument('config', help='a config of a scenario, such as ssul/voc_15-1')
    parser.add_argument('--all', action='store_true', help='list every fault, also where hundreds are of one kind')
    cli.add_config_options(parser)
    parser.set_defaults(launcher='none', local_rank=0)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as args.work_dir:  # for the class index; nothing is left behind
        cfg = cli.configure(args)
        from ..engine.check_data import check_data, shortened
        from ..engine.run import Run
        found = check_data(Run(cfg))
    print('\n\n'.join(found.text))
    if found.faults:
        lines = shortened(found.faults, None if args.all else SHOWN)
        print('\nA training would fail:\n' + '\n'.join(f'- {line}' for line in lines))
        number = len(found.faults)
        raise InputError(f'{number} fault{"s" * (number > 1)} in the data of {args.config}; mend what is listed above')
    print('\nNothing is missing or damaged.')
