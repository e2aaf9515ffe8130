"""See what the data of a config hold before any training: python tools/check_data.py configs/ssul/voc_15-1.py."""
import tempfile
from collections.abc import Sequence

from ssul_mmseg import cli
from ssul_mmseg.engine.check_data import check_data
from ssul_mmseg.engine.run import Run
from ssul_mmseg.errors import InputError


def main(argv: Sequence[str] | None = None) -> None:
    """Print images, classes, tasks and sizes, and all faults.

    Raises:
        InputError: a training would fail.
    """
    parser = cli.Parser(description=__doc__)
    parser.add_argument('config', help='a config of a scenario, such as configs/ssul/voc_15-1.py')
    cli.add_config_options(parser)
    parser.set_defaults(launcher='none', local_rank=0)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as args.work_dir:  # for the class index; nothing is left behind
        found = check_data(Run(cli.configure(args)))
    print('\n\n'.join(found.text))
    if found.faults:
        print('\nA training would fail:\n' + '\n'.join(f'- {fault}' for fault in found.faults))
        number = len(found.faults)
        raise InputError(f'{number} fault{"s" * (number > 1)} in the data of {args.config}; mend what is listed above')
    print('\nNothing is missing or damaged.')


if __name__ == '__main__':
    cli.run(main)
