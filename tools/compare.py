"""Put runs side by side, the paper's numbers beside: python tools/compare.py work_dirs/ssul/voc_15-1 ..."""
from collections.abc import Sequence

from ssul_mmseg import cli
from ssul_mmseg.evaluation.compare import compare


def main(argv: Sequence[str] | None = None) -> None:
    """Print one Markdown table per data set and scenario."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('runs', nargs='+', help='work dirs, or results.json files; runs of several seeds are averaged')
    print(compare(parser.parse_args(argv).runs))


if __name__ == '__main__':
    cli.run(main)
