"""Evaluate a learned task: python tools/test.py configs/ssul/voc_15-1.py work_dirs/ssul/voc_15-1 --task 5."""
import json
from collections.abc import Sequence

from ssul_mmseg import cli
from ssul_mmseg.engine import learned_tasks, test_task
from ssul_mmseg.errors import InputError


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate and print the metrics as JSON."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('config', help='the config that was trained')
    parser.add_argument('work_dir', help='where it was trained')
    parser.add_argument('--task', type=int, help='which task; default: the last learned')
    cli.add_common_arguments(parser)
    args = parser.parse_args(argv)
    cfg = cli.configured(args)
    tasks = learned_tasks(cfg)
    if not tasks:
        raise InputError(f'there is no learned task in {args.work_dir}; train one with tools/train.py')
    metrics = test_task(cfg, tasks[-1] if args.task is None else args.task)
    if cli.is_main_process():
        print(json.dumps(metrics, indent=1, ensure_ascii=False))


if __name__ == '__main__':
    cli.run(main)
