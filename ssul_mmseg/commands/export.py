"""Take a network elsewhere: ssul export work_dirs/ssul/voc_15-1 --task 5 --to mmseg --out voc.pth."""
from collections.abc import Sequence

from .. import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Write the network of a learned task in a form that runs without this package."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('work_dir', help='of a run')
    parser.add_argument('--task', type=int, help='which task; default: the last learned')
    parser.add_argument('--to', required=True, choices=('mmseg', 'onnx', 'torchscript'), help='the form')
    parser.add_argument('--unknown', choices=('merge', 'keep'), default='merge',
                        help='merge: unknown is background (the default); keep: it is the last channel')
    parser.add_argument('--out', required=True, metavar='FILE', help='the file to write')
    args = parser.parse_args(argv)
    from .. import components  # noqa: F401 - registers what the run's config names
    from ..engine.export import export
    for sentence in export(args.work_dir, args.task, args.to, args.unknown, args.out):
        print(sentence)
