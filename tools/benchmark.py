"""Measure speed and memory: python tools/benchmark.py step task shell methods --quick --out bench."""
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from speed import NAMES
from speed.settings import AMP, FULL, LITE, QUICK, Options

from ssul_mmseg import cli
from ssul_mmseg.errors import InputError

CONFIGS = Path(__file__).resolve().parent.parent / 'configs'


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write benchmark.json and benchmark.md, and print the latter."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('names', nargs='+', choices=NAMES, metavar='name', help=f'what to measure: {", ".join(NAMES)}')
    parser.add_argument('--out', required=True, help='folder for benchmark.json and benchmark.md')
    size = parser.add_mutually_exclusive_group()
    size.add_argument('--quick', action='store_true', help='a narrow ResNet-18 on small images')
    size.add_argument('--lite', action='store_true', help='EfficientNet-Lite0, crop 257, batch 16')
    parser.add_argument('--amp', choices=tuple(AMP), default='none', help='mixed precision of training')
    parser.add_argument('--batch', type=int, help='images per iteration, at least 2')
    parser.add_argument('--repetitions', type=int, help='timed runs of each variant')
    args = parser.parse_args(argv)
    scale = FULL
    if args.quick or args.lite:
        scale = QUICK if args.quick else LITE
    # BatchNorm of the base task needs two images.
    for name, least in (('batch', 2), ('repetitions', 1)):
        value = getattr(args, name)
        if value is not None:
            if value < least:
                raise InputError(f'--{name} is {value}; give a whole number of at least {least}')
            scale = dataclasses.replace(scale, **{name: value})
    import torch
    from speed.report import markdown
    from speed.suite import run_benchmarks
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    print(markdown(run_benchmarks(args.names, Options(CONFIGS, scale, device, args.amp), args.out)), end='')


if __name__ == '__main__':
    cli.run(main)
