"""Predict images: ssul predict ssul/voc_15-1 work_dirs/ssul/voc_15-1 photo.jpg --out found."""
import sys
from collections.abc import Sequence

from .. import cli
from ..errors import InputError

ENDINGS = ('', '_overlay')


def main(argv: Sequence[str] | None = None) -> None:
    """Write a mask and an overlay of every image, and print what was found in it; bad images are reported at the end.

    Raises:
        InputError: an image could not be predicted, or nothing can be.
    """
    parser = cli.Parser(description=__doc__)
    parser.add_argument('config', help='the config that was trained')
    parser.add_argument('work_dir', help='where it was trained')
    parser.add_argument('images', nargs='+', help='images of any size: files, folders, or patterns such as "a/*.jpg"')
    parser.add_argument('--out', required=True, help='folder for <name>.png, the mask, and <name>_overlay.png')
    parser.add_argument('--task', type=int, help='which task; default: the last learned')
    parser.add_argument('--unknown', action='store_true',
                        help='write <name>_unknown.png too, white where the network finds what it does not know')
    cli.add_config_options(parser)
    parser.set_defaults(launcher='none', local_rank=0)
    args = parser.parse_args(argv)
    cfg = cli.configure(args)
    from ..api import load_model, predict
    from ..prediction import find_images, output_files, save
    images = find_images(args.images)
    model = load_model(args.work_dir, args.task, cfg)
    files = output_files(images, args.out, (*ENDINGS, '_unknown') if args.unknown else ENDINGS)
    faults = []
    try:
        for image, names in zip(images, files, strict=True):
            try:
                prediction = predict(model, image, scores=False)
            except InputError as error:
                faults.append(error)
                continue
            save(prediction, *names)
            print(prediction.summary(), flush=True)
    finally:
        # Also where a full disk or Ctrl-C ends the loop.
        for fault in faults if len(images) > 1 else ():
            print(f'error: {fault.sentence}', file=sys.stderr)
    if faults and len(images) == 1:
        raise faults[0]
    if faults:
        raise InputError(f'{len(faults)} of {len(images)} images are not predicted, for the reasons above; the others '
                         f'are in {args.out}')
