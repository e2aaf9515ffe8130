"""Kill a run at all kinds of moments, resume it, compare: python tools/soak.py --kills 30 --out work_dirs/soak."""
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ssul_mmseg import cli
from ssul_mmseg.errors import InputError
from ssul_mmseg.evaluation.tables import duration, table
from ssul_mmseg.work_dir.files import read_json, write_json, write_text
from ssul_mmseg.work_dir.layout import CHECKPOINT, MEMORY, RESULT, RESULTS, WEIGHTS, task_dir, task_dirs

ROOT = Path(__file__).resolve().parent.parent
CONFIG = 'configs/ssul/shapes_4-1_m.py'
TASKS = 5
DATA = {'num_train': 120, 'num_test': 40, 'size': 48}
OPTIONS = {
    'crop_size': '(32,32)', 'train_dataloader.batch_size': 8,
    'model.backbone.base_channels': 8, 'model.decode_head.in_channels': 64,
    'model.decode_head.channels': 16, 'model.decode_head.dropout_ratio': .1, 'memory.size': 12,
    'train_cfg.max_epochs': 8, 'incremental.train_cfg.max_epochs': 6, 'feature_cache.views': 2,
    'checkpoint.interval': 4, 'checkpoint.by_epoch': False,
}
START = 'start of the process'
# Phase that an aimed kill waits for -> the most seconds that it then waits; some phases last only milliseconds.
AIMS = {'index scan': .6, 'task start': .6, 'training': 1., 'checkpoint writing': 0., 'exemplar selection': 0.,
        'weights writing': 0., 'evaluation': .4, 'between tasks': .4}
POLL = .001


class Run:
    """A run of tools/train.py, in one process after the other.

    Args:
        work_dir: its work dir.
        data: folder of the data set.
    """

    def __init__(self, work_dir: Path, data: Path) -> None:
        self.work_dir = work_dir
        self.log = work_dir.with_suffix('.log')
        options = {**OPTIONS, 'data_root': data}
        for split in ('train', 'test'):
            options |= {f'{split}_dataloader.dataset.dataset.{key}': value for key, value in DATA.items()}
        self.command = [sys.executable, 'tools/train.py', CONFIG, '--work-dir', str(work_dir), '--resume',
                        '--cfg-options', *(f'{key}={value}' for key, value in options.items())]

    def start(self) -> None:
        """Start a process that goes on with the run."""
        self.begun, self.started = False, time.time()
        with open(self.log, 'w') as log:
            self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=log, stderr=log)

    def ended(self) -> bool:
        """Whether the process has ended by itself."""
        return self.process.poll() is not None

    def phase(self) -> str:
        """Judge from its files what the process does, or did when it was killed."""
        if not self.begun:
            # A process works on a run as soon as it holds the lock of its work dir.
            self.begun = f'WRITE {self.process.pid} ' in Path('/proc/locks').read_text()
        if not self.begun:
            return START
        if not any(self.work_dir.glob('class_index_*')):
            return 'index scan'
        task = self.task()
        if task < 0:
            return 'task start'
        folder = task_dir(self.work_dir, task)
        names = {path.name for path in folder.iterdir()}
        for name, phase in ((CHECKPOINT, 'checkpoint writing'), (MEMORY, 'exemplar selection'),
                            (WEIGHTS, 'weights writing')):
            if f'.{name}.{self.process.pid}.tmp' in names:
                return phase
        if RESULT in names:
            return 'between tasks'
        if WEIGHTS in names:
            return 'evaluation'
        if MEMORY in names and (folder / MEMORY).stat().st_mtime > self.started:
            return 'exemplar selection'
        return 'training' if f'task {task}/' in self.log.read_text() else 'task start'

    def task(self) -> int:
        """The last task that was begun, -1 before the first."""
        return max(task_dirs(self.work_dir), default=-1)

    def outcome(self) -> dict:
        """What must not depend on the kills, by name: weights bit by bit, memory, and results without timings."""
        from ssul_mmseg.work_dir.weights import load_state, tensor_digest
        results = read_json(self.work_dir / RESULTS)
        for entry in results['tasks']:
            del entry['seconds'], entry['peak_memory']
        found: dict = {'results': results}
        for task in range(TASKS):
            folder = task_dir(self.work_dir, task)
            found[f'memory of task {task}'] = read_json(folder / MEMORY)
            weights = load_state(folder / WEIGHTS)['state_dict']
            found[f'weights of task {task}'] = {
                key: (value.shape, tensor_digest(value)) for key, value in weights.items()}
        return found


def disturb(run: Run, aim: str | None, delay: float) -> dict | None:
    """Start a process of a run and kill it.

    Args:
        run: the run.
        aim: the phase to hit; None: any.
        delay: seconds to wait first, for the aim or for the kill.

    Returns:
        The moment that was hit, None if the process ended before.
    """
    run.start()
    deadline = time.monotonic() + delay
    while not run.ended():
        if time.monotonic() > deadline and aim in (None, run.phase()):
            time.sleep(random.uniform(0, AIMS[aim] if aim else 0.))
            run.phase()
            run.process.kill()
            if run.process.wait() != -signal.SIGKILL:
                return None
            return {'phase': run.phase(), 'task': run.task(), 'aim': aim,
                    'seconds': round(time.time() - run.started, 2)}
        time.sleep(POLL)
    return None


def soak(out: Path, num_kills: int) -> dict:
    """Kill and resume runs until all kills are spent; returns what happened."""
    runs = out / 'runs'
    foreign = [path.name for path in runs.glob('*') if not path.name.startswith(('run_', 'undisturbed'))]
    if foreign or (runs.exists() and not runs.is_dir()):
        raise InputError(f'{runs} holds {foreign[0] if foreign else "a file"}, which is not of a soak, and would be '
                         'removed; choose another --out')
    shutil.rmtree(runs, ignore_errors=True)
    runs.mkdir(parents=True)
    begin = time.monotonic()
    undisturbed = Run(runs / 'undisturbed', out / 'data')
    undisturbed.start()
    if undisturbed.process.wait():
        raise InputError(f'the undisturbed run failed; see {undisturbed.log}')
    whole, expected = time.monotonic() - begin, undisturbed.outcome()
    print(f'undisturbed run: {duration(whole)}', flush=True)
    kills: list[dict] = []
    lost: list[str] = []
    mismatches: list[str] = []
    aimed: Counter[str | None] = Counter()
    number = 0
    while len(kills) < num_kills:
        number += 1
        run = Run(runs / f'run_{number}', out / 'data')
        while True:
            fresh = not any(run.work_dir.glob('class_index_*'))
            aim, delay = None, random.uniform(0, whole)
            if len(kills) % 2:
                possible = [name for name in AIMS if name != 'index scan' or fresh]
                aim = min(possible, key=lambda name: aimed[name])
                delay *= 0 if aim == 'index scan' else .5
            moment = disturb(run, aim, delay if len(kills) < num_kills else float('inf'))
            if moment is None:
                break
            aimed[aim] += 1
            kills.append({'run': number, **moment})
            left = (time.monotonic() - begin - whole) / len(kills) * (num_kills - len(kills))
            print(f'kill {len(kills)}/{num_kills}: task {moment["task"]}, {moment["phase"]}; {duration(left)} to go',
                  flush=True)
        if run.process.returncode:
            lost.append(f'run {number}: see {run.log}')
            break
        found = run.outcome()
        mismatches += [f'run {number}: {name}' for name, value in expected.items() if found[name] != value]
        print(f'run {number}: {mismatches or "as undisturbed"}', flush=True)
    from speed.measure import machine
    return {'command': shlex.join(['python', *sys.argv]), 'kills': kills, 'runs': number, 'lost': lost,
            'mismatches': mismatches, 'undisturbed_seconds': round(whole, 1),
            'seconds': round(time.monotonic() - begin, 1), 'machine': machine('cpu')}


def markdown(record: dict) -> str:
    """The record for people."""
    phases = Counter(kill['phase'] for kill in record['kills'])
    rows = [[phase, str(phases[phase])] for phase in (START, *AIMS)]
    kills = table(['killed in', 'kills'], [*rows, ['**all**', f'**{len(record["kills"])}**']])
    where = record['machine']
    threads = f'{where["threads"]} thread{"s" * (where["threads"] > 1)}'
    versions = ', '.join(f'{name} {version}' for name, version in where['versions'].items())
    return '\n'.join([
        '# Soak', '', f'`{record["command"]}`', '', kills, '',
        f'{record["runs"]} runs of {TASKS} tasks; lost {len(record["lost"])}, mismatches {len(record["mismatches"])}; '
        f'{duration(record["seconds"])} in all, {duration(record["undisturbed_seconds"])} an undisturbed run.', '',
        f'{where["date"]}, {where["cpu"]}, {where["cores"]} cores, {threads}; {versions}.', '',
        *(f'- {fault}' for fault in record['lost'] + record['mismatches'])]).rstrip() + '\n'


def main(argv: Sequence[str] | None = None) -> None:
    """Soak, write soak.json and soak.md, and fail if anything was lost or differs."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument('--kills', type=int, default=30, help='how often to kill (default: 30)')
    parser.add_argument('--out', required=True, help='folder for soak.json, soak.md, the runs and their data')
    parser.add_argument('--seed', type=int, default=0, help='seed of the moments')
    args = parser.parse_args(argv)
    if args.kills < 1:
        raise InputError(f'--kills is {args.kills}; give a whole number of at least 1')
    random.seed(args.seed)
    out = Path(args.out).resolve()
    record = soak(out, args.kills)
    write_json(out / 'soak.json', record)
    write_text(out / 'soak.md', markdown(record))
    print(markdown(record), end='')
    if record['lost'] or record['mismatches']:
        sys.exit(1)


if __name__ == '__main__':
    cli.run(main)
