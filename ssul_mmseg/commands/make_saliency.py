"""Make saliency maps: ssul make-saliency ssul/voc_15-1 --model u2netp.onnx."""
import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import cli
from ..config_files import CONFIG, names
from ..errors import InputError
from ..saliency import THRESHOLD

if TYPE_CHECKING:
    from ..saliency.maps import Detector

CLASSICAL = 'classical'
FOLDER = 'SaliencyMap'


def main(argv: Sequence[str] | None = None) -> None:
    """Write the maps of the training images of a config, or of a folder of photographs; score them if asked to."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('images', metavar='CONFIG_OR_FOLDER', help='config, such as ssul/voc_15-1, whose '
                        'training images get maps where it looks for them, or folder of photographs')
    parser.add_argument('--model', required=True, metavar=f'FILE.onnx|{CLASSICAL}',
                        help=f'salient-object network, or {CLASSICAL!r}, a detector without weights')
    parser.add_argument('--out', help=f'folder of the maps; default of a folder of photographs: {FOLDER} beside it')
    parser.add_argument('--list', metavar='FILE', help='only the photographs that it names, an id a line')
    parser.add_argument('--processes', type=int, default=1, help='how many work side by side; default: 1')
    parser.add_argument('--overwrite', action='store_true', help='replace the maps that are there, of any detector')
    parser.add_argument('--score', metavar='MASKS', help='folder of masks <id>.png to compare the maps with')
    parser.add_argument('--threshold', type=float, default=THRESHOLD,
                        help=f'between 0 and 1, above which a pixel is salient; default: {THRESHOLD}')
    network = parser.add_argument_group('of a network, where its file does not fix them (OpenCV, which runs it where '
                                        'onnxruntime is missing, needs all three)')
    network.add_argument('--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help='of its input, in pixels')
    network.add_argument('--mean', type=float, nargs=3, metavar='X', help="of RGB values from 0 to 1; default: "
                         "ImageNet's")
    network.add_argument('--deviation', type=float, nargs=3, metavar='X', help='of the same; default: ImageNet\'s')
    cli.add_config_options(parser)
    parser.set_defaults(launcher='none', local_rank=0, work_dir=None)
    args = parser.parse_args(argv)
    if not 0 < args.threshold < 1:
        parser.error(f'--threshold is {args.threshold}; it lies between 0 and 1')
    if args.processes < 1 or min(args.size or [1]) < 1 or min(args.deviation or [1]) <= 0:
        parser.error('--processes, --size and --deviation are positive')
    from ..saliency.maps import write_maps
    from ..saliency.score import score_maps
    photographs, place, saliency_dir = _photographs(args)
    out = Path(args.out) if args.out else place
    print(write_maps(_detector(args), photographs, out, args.processes, args.threshold, args.overwrite))
    if saliency_dir and out.resolve() != place.resolve():
        print(f'{args.images} reads them with --cfg-options {saliency_dir}={out.resolve()}')
    if args.score:
        print(score_maps(photographs, out, args.score).line())


def _photographs(args: argparse.Namespace) -> tuple[dict[str, Path], Path, str]:
    """The photographs of parsed arguments by id, the usual folder of their maps, and the config's key for another."""
    from ..saliency.photographs import choose, photographs_of, photographs_of_source
    if _is_config(args.images):
        args.config = args.images
        cfg = cli.configure(args)
        data = cfg.train_dataloader.dataset
        if 'data_root' in cfg:
            data.dataset.setdefault('data_root', cfg.data_root)
        photographs, root = photographs_of_source(data.dataset)
        place, key = root / data.get('saliency_dir', FOLDER), 'train_dataloader.dataset.saliency_dir'
    else:
        if args.cfg_options:
            raise InputError(f'--cfg-options changes a config, but {args.images} is none; leave it out')
        photographs, place, key = photographs_of(args.images), Path(args.images).resolve().parent / FOLDER, ''
    return (choose(photographs, args.list) if args.list else photographs), place, key


def _is_config(images: str) -> bool:
    """Whether the images are those of a config: a file of Python, or a name where no folder is called so."""
    if Path(images).is_dir():
        return False
    return Path(images).suffix == CONFIG or any(name == images or name.endswith(f'/{images}') for name in names(CONFIG))


def _detector(args: argparse.Namespace) -> 'Detector':
    """The detector of parsed arguments."""
    from ..saliency.classical import ClassicalDetector
    from ..saliency.network import NetworkDetector
    if args.model != CLASSICAL:
        return NetworkDetector(args.model, args.size and tuple(args.size), args.mean, args.deviation)
    if args.size or args.mean or args.deviation:
        raise InputError(f'--size, --mean and --deviation are of a network, but --model is {CLASSICAL}; leave them out')
    return ClassicalDetector()
