"""Write the config of a folder of images and masks: ssul new-dataset data/tools."""
from collections.abc import Sequence
from pathlib import Path

from .. import cli
from ..config_files import find

BASE = 'ssul/voc_15-1'


def main(argv: Sequence[str] | None = None) -> None:
    """Find images, masks and classes, write the config, and say what to do with it."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('folder', help='with train/images, train/masks and the same for test; or images/train, ...; or '
                        'images and masks; or images and COCO-style annotations')
    parser.add_argument('--out', metavar='CONFIG', help='default: configs/mine/<folder>_<scenario>.py')
    parser.add_argument('--names', metavar='FILE', help='the names of the classes, one a line, that of value 1 or '
                        'background first; default: class_1, ...')
    parser.add_argument('--no-background', action='store_true', help='of masks of values: 0 is the first class')
    parser.add_argument('--palette', metavar='FILE', help='for masks of colours: a line such as "128 0 0 hammer" for '
                        'each class; the name "ignore" stands for pixels that count nowhere')
    parser.add_argument('--scenario', help="such as '4-2'; default: half of the classes, then one at a time")
    parser.add_argument('--base', default=BASE, metavar='CONFIG',
                        help=f'gives network and schedule; default: {BASE}')
    args = parser.parse_args(argv)
    base, root = find(args.base), Path(args.folder)
    from ..datasets.new_dataset import default_scenario, new_dataset, write_config
    from ..options import read_config
    names, palette = (Path(file) if file else None for file in (args.names, args.palette))
    with new_dataset(root, names, palette, not args.no_background) as found:
        scenario = args.scenario or default_scenario(found.num_classes)
        out = Path(args.out or f'configs/mine/{root.resolve().name}_{scenario}.py')
        write_config(found, out, base, scenario, read_config)
    print(f'{found.num_classes} classes: {", ".join(found.meaning.classes)}')
    for path in found.written:
        print(f'written: {path}')
    print(f'written: {out}\nnext: ssul check-data {out}')
