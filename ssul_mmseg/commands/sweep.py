"""Run every cell of a table, on any number of machines: ssul sweep shapes_table1."""
import argparse
import re
import shlex
import sys
from collections.abc import Sequence

from .. import cli
from ..errors import InputError
from ..sweep.plan import Job, Plan, check_plan, make_plan
from ..sweep.results_table import write_tables
from ..sweep.state import states
from ..sweep.submit import submit_workers
from ..sweep.table_file import read_table
from ..sweep.worker import LOG, Worker

# The interpreter does not add the current folder to where it looks for modules, as the command ssul does not.
SSUL = [sys.executable, '-P', '-m', 'ssul_mmseg']
STAGES = ('all', 'base', 'cells')


def jobs_of(plan: Plan, stage: str, shard: str) -> list[Job]:
    """The jobs that this worker looks after: those of a stage, or every n-th of them with what they start from.

    Args:
        plan: all jobs.
        stage: 'base', 'cells' or 'all'.
        shard: 'i/n', i from 1 to n.
    """
    match = re.fullmatch(r'(\d{1,6})/(\d{1,6})', shard)
    number, shards = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= shards:
        raise InputError(f'--shard is {shard!r}; give I/N, the I-th of N parts, such as 1/4')
    own = (plan.bases if stage == 'base' else plan.cells)[number - 1::shards]
    needed = {job.base for job in own} if stage == 'all' else set()
    return [*(base for base in plan.bases if base in needed), *own]


def slots_of(gpus: str | None, jobs: int | None) -> list[dict[str, str]]:
    """The environment variables of each process that may run at once.

    Args:
        gpus: such as '0,1'.
        jobs: how many run at once; default: one, or one for each GPU.
    """
    if gpus is not None and not re.fullmatch(r'\d+(,\d+)*', gpus):
        raise InputError(f'--gpus is {gpus!r}; give the numbers of GPUs, such as 0,1')
    if jobs is not None and jobs < 1:
        raise InputError(f'--jobs is {jobs}; give a whole number of at least 1')
    if gpus is None:
        return [{}] * (jobs or 1)
    numbers = gpus.split(',')
    return [{'CUDA_VISIBLE_DEVICES': numbers[slot % len(numbers)]} for slot in range(jobs or len(numbers))]


def show_list(jobs: Sequence[Job]) -> None:
    """Print the state and the command of every job."""
    found = states(jobs)
    for job in jobs:
        print(f'{found[job]:8}{job.title}\n        {shlex.join(["ssul", "train", *job.arguments])}')
    counts = [f'{[*found.values()].count(state)} {state}' for state in sorted({*found.values()})]
    print(f'{len(jobs)} runs: {", ".join(counts)}')


def work(plan: Plan, jobs: Sequence[Job], slots: Sequence[dict[str, str]]) -> None:
    """Be a worker, print the table as far as it is done, and fail if a run has failed or could not begin."""
    worker = Worker(jobs, [*SSUL, 'train'], slots, lambda line: print(line, file=sys.stderr, flush=True))
    worker.run()
    found = states(plan.jobs)
    done = [cell for cell in plan.cells if found[cell] == 'done']
    if done:
        print(write_tables(plan, done))
    for job, fault in worker.failed.items():
        print(f'failed: {job.title}: {fault}; see {job.folder / LOG}', file=sys.stderr)
    waiting = [job for job in worker.left if found[job] == 'waiting']
    for job in waiting:
        print(f'not begun: {job.title} starts from {job.base and job.base.title}, which is not done', file=sys.stderr)
    if worker.failed or waiting:
        sys.exit(1)


def main(argv: Sequence[str] | None = None) -> None:
    """Run, list or submit the cells of a table."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('table', help='a table of runs, such as shapes_table1')
    parser.add_argument('--work-dir', help="folder of the runs; default: the table's work_dir, or work_dirs/<table>")
    parser.add_argument('--list', action='store_true', help='only print the state and the command of every run')
    parser.add_argument('--stage', choices=STAGES, default='all',
                        help='base: only task 0 of what several cells share; cells: only the cells')
    parser.add_argument('--shard', default='1/1', metavar='I/N', help='only the I-th of N parts of the runs')
    parser.add_argument('--jobs', type=int, help='how many runs at once; default: one, or one for each of --gpus')
    parser.add_argument('--gpus', metavar='0,1', help='GPUs that the runs share out')
    parser.add_argument('--submit', type=int, metavar='N', help='hand N such workers to Slurm, or start them here')
    parser.add_argument('--submit-options', nargs='+', action=cli.Options, default={}, metavar='KEY=VALUE',
                        help='for --submit: parameters of submitit, such as slurm_partition=gpu timeout_min=600')
    cli.add_config_options(parser)
    args = parser.parse_args(argv)
    plan = make_plan(read_table(args.table), args.work_dir, args.cfg_options)
    jobs, slots = jobs_of(plan, args.stage, args.shard), slots_of(args.gpus, args.jobs)
    if args.list:
        show_list(jobs)
        return
    check_plan(plan)
    if args.submit is None:
        work(plan, jobs, slots)
    else:
        submit(args, plan)


def submit(args: argparse.Namespace, plan: Plan) -> None:
    """Submit workers of this command."""
    if args.submit < 1:
        raise InputError(f'--submit is {args.submit}; give a whole number of workers of at least 1')
    options = {'--work-dir': args.work_dir, '--stage': args.stage, '--shard': args.shard, '--jobs': args.jobs,
               '--gpus': args.gpus}
    command = [*SSUL, 'sweep', args.table]
    for option, value in options.items():
        command += [] if value is None else [option, str(value)]
    if args.cfg_options:
        command += ['--cfg-options', *(f'{key}={cli.option_text(value)}' for key, value in args.cfg_options.items())]
    for job in submit_workers(command, args.submit, plan.folder, args.submit_options):
        print(f'worker {job.job_id} writes {job.paths.stdout}')
