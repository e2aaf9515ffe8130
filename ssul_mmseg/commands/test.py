"""Evaluate a learned task: ssul test ssul/voc_15-1 work_dirs/ssul/voc_15-1 --task 5."""
import json
from collections.abc import Sequence

from .. import cli
from ..errors import InputError
from ..evaluation.tables import task_table


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate, and print the table or the metrics."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('config', help='the config that was trained')
    parser.add_argument('work_dir', help='where it was trained')
    parser.add_argument('--task', type=int, help='which task; default: the last learned')
    parser.add_argument('--json', action='store_true', help='print all metrics as JSON instead of the table')
    parser.add_argument('--tta', action='store_true',
                        help='average over flips and scales of each image, or over the views of tta_pipeline')
    parser.add_argument('--open-set', action='store_true',
                        help='how well the scores of the network find pixels of the classes of later tasks')
    cli.add_common_arguments(parser)
    args = parser.parse_args(argv)
    cfg = cli.configure(args)
    from ..engine.run import Run
    from ..engine.scenario_loop import document_of, evaluate_open_set, evaluate_task
    from ..evaluation.open_set import open_set_table
    run = Run(cfg)
    task = run.learned_task(args.task)
    if args.open_set:
        if args.tta:
            raise InputError('--open-set and --tta are given together; choose one')
        found = evaluate_open_set(run, task)
        if cli.is_main_process():
            print(json.dumps({'task': task, **found}, indent=1) if args.json else open_set_table(found))
        return
    metrics = evaluate_task(run, task, args.tta)
    if cli.is_main_process():
        print(json.dumps({'task': task, **metrics}, indent=1, ensure_ascii=False) + '\n' if args.json else
              task_table(document_of(run, []), task, metrics), end='')
