"""Start from a plain mmseg network: ssul adopt configs/mine.py deeplab.pth --out work_dirs/adopted."""
import shlex
from collections.abc import Sequence

from .. import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Turn a checkpoint of mmseg's own into the learned task 0 of a scenario."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('config', help="a scenario's config whose task 0 has the checkpoint's classes and network")
    parser.add_argument('checkpoint', help="of mmseg's EncoderDecoder, trained by softmax")
    parser.add_argument('--out', required=True, metavar='WORK_DIR', help='where to write task_0')
    parser.add_argument('--images', nargs='+', default=[], metavar='IMAGE',
                        help='unlabelled images to calibrate the scores on: files, folders or patterns, a few hundred')
    parser.add_argument('--trust-pickled-weights', action='store_true',
                        help='unpickle a checkpoint that holds more than tensors, which may run code in it')
    cli.add_config_options(parser)
    parser.set_defaults(launcher='none', local_rank=0)
    args = parser.parse_args(argv)
    args.work_dir = args.out
    cfg = cli.configure(args)
    from ..engine.adopt import adopt
    from ..prediction import find_images
    images = find_images(args.images)
    for sentence in adopt(cfg, args.checkpoint, images, args.trust_pickled_weights):
        print(sentence)
    command = ['ssul', 'train', args.config, '--start-from', args.out, '--tasks', '1']
    if args.cfg_options:
        command += ['--cfg-options', *(f'{key}={cli.option_text(value)}' for key, value in args.cfg_options.items())]
    print(f'add classes with: {shlex.join(command)}')
