"""Make a page of runs, with figures and pictures: ssul report work_dirs/ssul/voc_15-1 --out report."""
from collections.abc import Sequence

from .. import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page, its tables as Markdown and its numbers as CSV, and print where the page lies."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('runs', nargs='+', metavar='WORK_DIR',
                        help='work dirs of one scenario, or results.json files; runs may still be going')
    parser.add_argument('--out', required=True, help='folder for report.html, report.md and report.csv')
    parser.add_argument('--images', type=int, default=6,
                        help='how many test images are shown with their predictions after every task (default: 6)')
    args = parser.parse_args(argv)
    from ..report.page import write_report
    page = write_report(args.runs, args.out, args.images)
    print(f'the report is {page.resolve()}')
