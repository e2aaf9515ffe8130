"""Evaluate a learned task: python tools/test.py configs/ssul/voc_15-1.py work_dirs/ssul/voc_15-1 --task 5."""
import json
from collections.abc import Sequence

from mmengine.dist import is_main_process

from ssul_mmseg import cli
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import document_of, evaluate_task
from ssul_mmseg.evaluation.tables import task_table


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate, and print the table or the metrics."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('config', help='the config that was trained')
    parser.add_argument('work_dir', help='where it was trained')
    parser.add_argument('--task', type=int, help='which task; default: the last learned')
    parser.add_argument('--json', action='store_true', help='print all metrics as JSON instead of the table')
    parser.add_argument('--tta', action='store_true',
                        help='average over flips and scales of each image, or over the views of tta_pipeline')
    cli.add_common_arguments(parser)
    args = parser.parse_args(argv)
    run = Run(cli.configure(args))
    task = run.learned_task(args.task)
    metrics = evaluate_task(run, task, args.tta)
    if is_main_process():
        print(json.dumps({'task': task, **metrics}, indent=1, ensure_ascii=False) + '\n' if args.json else
              task_table(document_of(run, []), task, metrics), end='')


if __name__ == '__main__':
    cli.run(main)
