"""See what a task is trained on: ssul browse-labels ssul/voc_15-1 --task 1 --out labels."""
from collections.abc import Sequence

from .. import cli
from ..errors import InputError


def main(argv: Sequence[str] | None = None) -> None:
    """Write the pictures, and print what each shows."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('config', help='a config of a scenario, such as ssul/voc_15-1')
    parser.add_argument('--task', type=int, required=True, help='which task, 0 for the first')
    parser.add_argument('--work-dir', help='of a run that has learned the task before, whose network gives the '
                        "pseudo-labels; default: where ssul train would write")
    parser.add_argument('--images', type=int, default=8, help='how many images of its first batches; default: 8')
    parser.add_argument('--out', required=True, help='folder for sheet.png, and two pictures of each image')
    cli.add_config_options(parser)
    parser.set_defaults(launcher='none', local_rank=0)
    args = parser.parse_args(argv)
    if args.images < 1:
        raise InputError(f'--images is {args.images}; it is a number of images, at least 1')
    cfg = cli.configure(args)
    from ..engine.browse_labels import caption, write_pictures
    from ..engine.label_samples import task_labels
    from ..engine.run import Run
    run = Run(cfg)
    task = run.scenario.check_task(args.task)
    labels = task_labels(run, task, args.images)
    sheet = write_pictures(run, task, labels, args.out)
    for sample in labels.samples:
        print(caption(sample, labels.classes))
    if task > 0 and not labels.has_old:
        print(f'There are no pseudo-labels and no exemplars: {run.folder(task - 1)} holds no learned task.')
    print(sheet)
