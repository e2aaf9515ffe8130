"""See what a task is trained on: python tools/browse_labels.py configs/ssul/voc_15-1.py --task 1 --out labels."""
from collections.abc import Sequence

from ssul_mmseg import cli
from ssul_mmseg.engine.browse_labels import caption, write_pictures
from ssul_mmseg.engine.label_samples import task_labels
from ssul_mmseg.engine.run import Run
from ssul_mmseg.errors import InputError


def main(argv: Sequence[str] | None = None) -> None:
    """Write the pictures, and print what each shows."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('config', help='a config of a scenario, such as configs/ssul/voc_15-1.py')
    parser.add_argument('--task', type=int, required=True, help='which task, 0 for the first')
    parser.add_argument('--work-dir', help='of a run that has learned the task before, whose network gives the '
                        "pseudo-labels; default: where tools/train.py would write")
    parser.add_argument('--images', type=int, default=8, help='how many of its first batches; default: 8')
    parser.add_argument('--out', required=True, help='folder for sheet.png, and two pictures of each image')
    cli.add_config_options(parser)
    parser.set_defaults(launcher='none', local_rank=0)
    args = parser.parse_args(argv)
    if args.images < 1:
        raise InputError(f'--images is {args.images}; it is a number of images, at least 1')
    run = Run(cli.configure(args))
    task = run.scenario.check_task(args.task)
    labels = task_labels(run, task, args.images)
    sheet = write_pictures(run, task, labels, args.out)
    for sample in labels.samples:
        print(caption(sample, labels.classes))
    if task > 0 and not labels.has_old:
        print(f'There are no pseudo-labels and no exemplars: {run.folder(task - 1)} holds no learned task.')
    print(sheet)


if __name__ == '__main__':
    cli.run(main)
