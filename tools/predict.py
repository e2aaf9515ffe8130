"""Predict images: python tools/predict.py configs/ssul/voc_15-1.py work_dirs/ssul/voc_15-1 photo.jpg --out found."""
from collections.abc import Sequence

from ssul_mmseg import cli
from ssul_mmseg.engine.run import Run
from ssul_mmseg.prediction import Predictor, output_files, save


def main(argv: Sequence[str] | None = None) -> None:
    """Write a mask and an overlay of every image, and print what was found in it."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('config', help='the config that was trained')
    parser.add_argument('work_dir', help='where it was trained')
    parser.add_argument('images', nargs='+', help='files of images, of any size')
    parser.add_argument('--out', required=True, help='folder for <name>.png, the mask, and <name>_overlay.png')
    parser.add_argument('--task', type=int, help='which task; default: the last learned')
    cli.add_config_options(parser)
    parser.set_defaults(launcher='none', local_rank=0)
    args = parser.parse_args(argv)
    cfg = cli.configure(args)
    task = Run(cfg).learned_task(args.task)
    files = output_files(args.images, args.out)
    predictor = Predictor(cfg, task)
    for image, (mask, overlay) in zip(args.images, files, strict=True):
        prediction = predictor.predict(image)
        save(prediction, mask, overlay)
        print(prediction.summary(), flush=True)


if __name__ == '__main__':
    cli.run(main)
