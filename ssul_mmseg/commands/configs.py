"""List the configs and tables that can be named: ssul configs voc_15-1."""
from collections.abc import Sequence

from .. import cli
from ..config_files import CONFIG, TABLE, folder, names
from ..errors import InputError


def main(argv: Sequence[str] | None = None) -> None:
    """Print the names, one a line, and the folder of their files."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('part', nargs='?', default='', help='only names that hold this text')
    args = parser.parse_args(argv)
    found = [name for name in names(CONFIG) + names(TABLE) if args.part in name]
    if not found:
        raise InputError(f'no name holds {args.part!r}; leave it out to see all of them')
    print('\n'.join([*found, f'in {folder()}']))
