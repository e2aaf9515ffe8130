"""Draw what runs predict in test images: ssul picture work_dirs/ssul:0,1 work_dirs/mib:1 --out new.png."""
from collections.abc import Sequence

from .. import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the picture and print where it lies."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('runs', nargs='+', metavar='WORK_DIR[:TASKS]',
                        help='work dirs of one scenario, with the tasks that are shown, such as work_dirs/demo:0,1,4; '
                             'without them all learned tasks')
    parser.add_argument('--out', required=True, help='the picture, a PNG file')
    parser.add_argument('--images', type=int, default=4,
                        help='how many test images are shown, chosen so that together they show many classes '
                             '(default: 4)')
    args = parser.parse_args(argv)
    from ..report.picture import draw_picture
    print(f'the picture is {draw_picture(args.runs, args.out, args.images).resolve()}')
