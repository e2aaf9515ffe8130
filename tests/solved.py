"""Cells of a run's images in the plain form, image by image, that tests of solved tasks share."""
import shutil
import subprocess
from pathlib import Path

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from tiny import ROOT, tiny_config

from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.scenario import IGNORE
from ssul_mmseg.work_dir.weights import load_state, read_weights, save_weights

OPTIONS = {'scenario.name': '18-1', 'train_cfg.max_epochs': 2, 'incremental.train_cfg.max_epochs': 2}
# Holds a run inside a pass over the trunk or inside a solution: `python -c HOLDING PLACE FILE tools/train.py ...`.
HOLDING = '''
import os, runpy, signal, sys
from pathlib import Path
from ssul_mmseg.engine.solve_loop import TaskSolveLoop
from ssul_mmseg.methods import analytic, ssul
place, mark, *sys.argv = sys.argv[1:]
def hold(task):
    if task == 2:
        Path(mark + '.part').write_text(str(os.getpid()))
        os.rename(mark + '.part', mark)
        while True:
            signal.pause()
group_done = TaskSolveLoop._group_done
def held_group(loop, done, total):
    group_done(loop, done, total)
    hold(loop.runner.task)
if place == 'pass':
    TaskSolveLoop._group_done = held_group
else:
    module, name = (analytic, 'classifier') if place == 'ridge' else (ssul, 'solve_newton')
    plain = getattr(module, name)
    started = []
    def held_solution(*arguments, **options):
        found = plain(*arguments, **options)
        started.append(1)
        # Analytic solves task 0's filters once more when task 1 starts.
        hold(len(started) - (place == 'ridge'))
        return found
    setattr(module, name, held_solution)
sys.path[0] = 'tools'
runpy.run_path(sys.argv[0], run_name='__main__')
'''


def config(tree, work_dir, **options):
    """Config of a tiny run; with ``memory`` it has exemplars."""
    memory = options.pop('memory', 0)
    path = 'configs/ssul/voc_15-1_m.py' if memory else 'configs/ssul/voc_15-1.py'
    return tiny_config(tree, work_dir, path, **{**OPTIONS, **options, **({'memory.size': memory} if memory else {})})


def learned_base(tree, folders, **options):
    """Work dir of a learned base task with exemplars, to start runs from."""
    work_dir = folders.mktemp('base')
    run_scenario(config(tree, work_dir, memory=10, **options), range(1))
    return work_dir


def solved_run(tree, base, work_dir, tasks=(1, 2), **options):
    """Run tasks from the base task on; returns the config."""
    cfg = config(tree, work_dir, **options)
    run_scenario(cfg, tasks, start_from=base)
    return cfg


def with_task_0(source, work_dir):
    """A work dir that holds the task 0 of another run, copied by hand instead of by --start-from."""
    shutil.copytree(source / 'task_0', work_dir / 'task_0')
    return work_dir


def change_weights(base, work_dir, change):
    """A copy of the base task with changed weights."""
    shutil.copytree(base / 'task_0', work_dir / 'task_0')
    path = work_dir / 'task_0/weights.pth'
    kept = read_weights(path, 0)
    change(kept.state_dict)
    save_weights(path, kept.state_dict, kept.classes, kept.palette, 0, kept.origin, kept.method_state)
    return work_dir


def learned(work_dir, task):
    """State dict and method state of a learned task."""
    state = load_state(Path(work_dir) / f'task_{task}/weights.pth')
    return state['state_dict'], state['method_state']


def samples(cfg, task, views=1, exemplars=False):
    """Image (1, 3, H, W) as the network takes it and labels (H, W) of each image of a task, or of each exemplar."""
    run = Run(cfg)
    task_cfg = task_config(cfg, task)
    manifest = run.folder(task - 1) / 'memory.json' if run.memory and task else None
    dataset = run.train_data(task_cfg, task, manifest)
    model = MODELS.build(task_cfg.model)
    positions = range(dataset.num_new, len(dataset)) if exemplars else range(dataset.num_new)
    for view in range(views):
        for position in positions:
            sample = dataset[position, view]
            data = model.data_preprocessor(
                dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]), True)
            yield data['inputs'], data['data_samples'][0].gt_sem_seg.data[0].long()


@torch.no_grad()
def trunk(cfg, state, inputs):
    """Features (d, h, w) of one image by the network of task 0."""
    model = MODELS.build(task_config(cfg, 0).model).eval()
    model.load_state_dict(state)
    return model.trunk(inputs)[0].double()


def shares(target, channels, size):
    """Pixels (h w, K) that each cell shows of each of K channels, and its valid pixels (h w,), by the gradient of
    bilinear upsampling."""
    def gathered(mask):
        grid = torch.zeros(1, 1, *size, dtype=torch.double, requires_grad=True)
        (F.interpolate(grid, target.shape, mode='bilinear') * mask.double()).sum().backward()
        return grid.grad.flatten() * size[0] * size[1] / target.numel()
    return torch.stack([gathered(target == channel) for channel in channels], dim=1), gathered(target != IGNORE)


def tool(tree, work_dir, options, *, resume=False, processes=None, hold=None, tasks='0-2'):
    """The command of a run with exemplars, which 'hold' (place, file) holds in task 2."""
    from test_distributed import command
    arguments = command(tree, work_dir, processes, resume, tasks=tasks, **{**OPTIONS, **options})
    if hold is not None:
        arguments[1:1] = ['-c', HOLDING, *hold]
    return arguments


def run_tool(arguments):
    from test_distributed import environment
    done = subprocess.run(arguments, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def killed(arguments, mark):
    """Start a command and kill it where it is held."""
    from test_distributed import environment
    process = subprocess.Popen(arguments, cwd=ROOT, env=environment() | {'PYTHONPATH': str(ROOT)},
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not mark.exists():
            assert process.poll() is None, process.communicate()[1]
            try:
                process.wait(.02)
            except subprocess.TimeoutExpired:
                continue
        assert int(mark.read_text()) == process.pid
    finally:
        process.kill()
        process.communicate()


def assert_same_bits(one, two, task):
    """Two work dirs hold the same weights and method state of a task."""
    for a, b in zip(learned(one, task), learned(two, task), strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def assert_two_processes_equal_one(tree, base, folder, options):
    """Tasks 1 and 2 are solved by one process and by two, to the same weights and method states."""
    for name, processes in (('one', None), ('two', 2)):
        (folder / name).mkdir()
        (folder / name / 'task_0').symlink_to(base / 'task_0')
        run_tool(tool(tree, folder / name, options, processes=processes, tasks='1-2'))
    for task in (1, 2):
        for a, b in zip(learned(folder / 'one', task), learned(folder / 'two', task), strict=True):
            for key, value in a.items():
                torch.testing.assert_close(b[key], value, rtol=1e-5, atol=1e-5, msg=lambda m, k=key: f'{k} {m}')
