"""Put runs side by side, the paper's numbers beside: ssul compare work_dirs/ssul/voc_15-1 ..."""
from collections.abc import Sequence

from .. import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Print one Markdown table per data set and scenario."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('runs', nargs='+', help='work dirs, or results.json files; runs of several seeds are averaged')
    args = parser.parse_args(argv)
    from ..evaluation.compare import compare
    print(compare(args.runs))
