"""Add a class to a learned run: ssul add-class RUN IMAGES MASKS --name ring --out work_dirs/rings."""
from collections.abc import Sequence
from pathlib import Path

from .. import cli
from ..work_dir.layout import TABLE


def main(argv: Sequence[str] | None = None) -> None:
    """Add the class, and print where its weights are."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('run', help='work dir of a learned run, or --out of an earlier call')
    parser.add_argument('images', help='folder of images')
    parser.add_argument('masks', help='folder of their masks: the class by one value, 0 elsewhere, 255 not known')
    parser.add_argument('--name', required=True, help='name of the new class')
    parser.add_argument('--out', required=True, help='the new work dir')
    parser.add_argument('--value', type=int, help='value of the class in the masks; default: the only one')
    parser.add_argument('--saliency', help='folder of saliency maps, or ground_truth; default: nothing is unknown')
    parser.add_argument('--task', type=int, help='the learned task to start from; default: the last')
    parser.add_argument('--colour', type=int, nargs=3, metavar=('R', 'G', 'B'), help='of the class in predictions')
    parser.add_argument('--test', nargs=2, metavar=('IMAGES', 'MASKS'),
                        help='folders to evaluate on, whose masks mark the old classes too')
    parser.add_argument('--config', help='the config that was trained; default: the one recorded in RUN')
    cli.add_config_options(parser)
    args = parser.parse_args(argv)
    from ..new_class import add_class
    test_images, test_masks = args.test or (None, None)
    weights = add_class(
        args.run, args.images, args.masks, args.name, args.out, value=args.value, saliency=args.saliency,
        task=args.task, colour=args.colour, config=args.config, options=args.cfg_options, test_images=test_images,
        test_masks=test_masks)
    if args.test:
        print(Path(args.out, TABLE).read_text(encoding='utf-8'))
    print(f'{args.name} is learned: {weights}')
