"""Predict images: python tools/predict.py configs/ssul/voc_15-1.py work_dirs/ssul/voc_15-1 photo.jpg --out found."""
import sys
from collections.abc import Sequence

from ssul_mmseg import cli
from ssul_mmseg.engine.run import Run
from ssul_mmseg.errors import InputError
from ssul_mmseg.prediction import Predictor, find_images, output_files, save


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
    cli.add_config_options(parser)
    parser.set_defaults(launcher='none', local_rank=0)
    args = parser.parse_args(argv)
    cfg = cli.configure(args)
    task = Run(cfg).learned_task(args.task)
    images = find_images(args.images)
    files = output_files(images, args.out)
    predictor = Predictor(cfg, task)
    faults = []
    try:
        for image, (mask, overlay) in zip(images, files, strict=True):
            try:
                prediction = predictor.predict(image)
            except InputError as error:
                faults.append(error)
                continue
            save(prediction, mask, overlay)
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


if __name__ == '__main__':
    cli.run(main)
