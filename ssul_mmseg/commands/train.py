"""Train all tasks of a scenario: ssul train ssul/voc_15-1."""
import os
import re
import shlex
import sys
from collections.abc import Sequence

from .. import cli
from ..errors import InputError
from ..evaluation.tables import scenario_table


def parse_tasks(text: str) -> range:
    """Parse '3' or '0-3' (both ends included)."""
    match = re.fullmatch(r'(\d{1,6})(?:-(\d{1,6}))?', text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if last < first:
        raise InputError(f"--tasks is {text!r}; give one task such as 2, or the first and the last such as 0-3")
    return range(first, last + 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate, and print the table."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('config', help='a config of a scenario, such as ssul/voc_15-1')
    parser.add_argument('--work-dir',
                        help="where to write; default: the config's work_dir, or work_dirs/<folder>/<config>")
    parser.add_argument('--tasks', help="which tasks, such as '0-3' or '2'; default: all")
    parser.add_argument('--start-from', metavar='WORK_DIR',
                        help='copy the tasks that another run has learned, and go on from them')
    parser.add_argument('--seed', type=int, help='seed of all that is random')
    parser.add_argument('--amp', action='store_true', help='mixed precision: bfloat16, or float16 on GPUs without it')
    parser.add_argument('--resume', action='store_true', help='go on where an earlier run stopped')
    parser.add_argument('--quiet', action='store_true', help='show no progress, only warnings, errors and the table')
    parser.add_argument('--trust-pickled-weights', action='store_true',
                        help='unpickle pretrained weights that hold more than tensors, which may run code in them')
    cli.add_common_arguments(parser)
    args = parser.parse_args(argv)
    cfg = cli.configure(args)
    cfg.quiet = args.quiet
    tasks = None if args.tasks is None else parse_tasks(args.tasks)
    from ..api import run
    document = run(
        cfg, tasks=tasks, seed=args.seed, amp=args.amp, resume=args.resume, start_from=args.start_from,
        trust_pickled_weights=args.trust_pickled_weights)
    if cli.is_main_process():
        print(scenario_table(document))


def resume_command() -> str:
    """This command with --resume."""
    # A script of tools/ that starts a launcher hands down its own command; of another launcher it is not known.
    command = shlex.split(os.environ.get('SCRIPT', ''))
    if not command:
        if '--launcher' in sys.argv:
            return "your launcher's command with --resume"
        program = ['python', sys.argv[0]] if sys.argv[0].endswith('.py') else sys.argv[0].split()
        command = [*program, *sys.argv[1:]]
    return shlex.join([*(part for part in command if part != '--resume'), '--resume'])
