"""What the machine does to a run ends in one sentence, and the resumed run in the numbers of an undisturbed one."""
import contextlib
import json
import os
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmseg.registry import OPTIM_WRAPPERS
from tiny import ROOT, tiny_config, tiny_options, voc_tree

from ssul_mmseg import machine
from ssul_mmseg.datasets.transforms import LoadImage
from ssul_mmseg.engine import feature_cache
from ssul_mmseg.engine.feature_cache import FeatureCache
from ssul_mmseg.engine.freeze_hook import FreezeHook
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.seed_hook import SeedHook
from ssul_mmseg.models.losses import SigmoidBCELoss
from ssul_mmseg.work_dir.weights import load_state

CONFIG = 'configs/ssul/voc_15-1_m.py'
# Three epochs: 3 x 5 iterations in task 0, 3 x 3 in task 1. A checkpoint takes about 0.6 MB, the weights 0.3 MB.
OPTIONS = {'scenario.name': '15-5', 'train_cfg.max_epochs': 3, 'memory.size': 8, 'checkpoint.interval': 1}


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', 24)


@pytest.fixture(scope='module')
def whole(tree, tmp_path_factory):
    """The work dir of an undisturbed run."""
    work_dir = tmp_path_factory.mktemp('whole')
    run_scenario(tiny_config(tree, work_dir, CONFIG, **OPTIONS))
    return work_dir


@pytest.fixture
def base(whole, tmp_path):
    """A work dir in which task 0 is learned."""
    work_dir = tmp_path / 'base'
    shutil.copytree(whole, work_dir, ignore=shutil.ignore_patterns('task_1', 'results.*'))
    return work_dir


def command(tree, work_dir, *arguments, **options):
    options = {**tiny_options(tree), **OPTIONS, **options}
    return ['tools/train.py', CONFIG, '--work-dir', str(work_dir), *arguments, '--cfg-options',
            *(f'{key}={value}'.replace(' ', '') for key, value in options.items())]


@pytest.fixture
def train(tree, monkeypatch, capfd):
    """Runs tools/train.py in this process; returns its exit code and what it wrote to the error stream."""
    def run(work_dir, *arguments, **options):
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, 'argv', command(tree, work_dir, *arguments, **options))
        code = 0
        try:
            runpy.run_path('tools/train.py', run_name='__main__')
        except SystemExit as end:
            code = end.code
        return code, capfd.readouterr().err
    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


def assert_reported(code, messages, *parts):
    """One sentence and no traceback."""
    errors = [line for line in messages.splitlines() if line.startswith('error: ')]
    assert (code, len(errors)) == (2, 1) and messages.rstrip().endswith(errors[0]), messages
    assert 'Traceback' not in messages and '\n' not in errors[0]
    for part in parts:
        assert re.search(part, errors[0]), errors[0]


def outcome(work_dir):
    """Results without what depends on the machine, exemplars, and weights of every task."""
    document = json.loads((work_dir / 'results.json').read_text())
    del document['config']
    for entry in document['tasks']:
        del entry['seconds'], entry['peak_memory']
    memory = [(work_dir / f'task_{task}/memory.json').read_text() for task in (0, 1)]
    return document, memory, [load_state(work_dir / f'task_{task}/weights.pth') for task in (0, 1)]


def assert_resumed(train, work_dir, whole):
    """``--resume`` ends in the numbers of the undisturbed run, bit by bit."""
    code, messages = train(work_dir, '--resume')
    assert code == 0, messages
    (*numbers, weights), (*expected, expected_weights) = outcome(work_dir), outcome(whole)
    assert numbers == expected
    for ours, theirs in zip(weights, expected_weights, strict=True):
        assert ours['meta'] == theirs['meta'] and ours['state_dict'].keys() == theirs['state_dict'].keys()
        assert all(torch.equal(ours['state_dict'][key], value) for key, value in theirs['state_dict'].items())


@contextlib.contextmanager
def limited(kind, amount):
    """Lower a limit of this process; Python ignores SIGXFSZ, so that too large a file is an error, not the end."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (amount, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@pytest.mark.parametrize(('size', 'file'), [
    (500_000, 'checkpoint.pth'), (200_000, 'weights.pth'), (5_000, 'a file in')])
def test_a_file_that_cannot_grow(train, whole, tmp_path, size, file):
    interval = {} if file == 'checkpoint.pth' else {'checkpoint.interval': 9}
    with limited(resource.RLIMIT_FSIZE, size):
        code, messages = train(tmp_path, **interval)
    assert_reported(code, messages, file, 'File too large', '--resume')
    assert not [*tmp_path.rglob('*.tmp'), *tmp_path.rglob('weights.pth')]
    assert_resumed(train, tmp_path, whole)


def mounted(tree, work_dir, mount, *arguments):
    """Run tools/train.py with something mounted on its work dir, which is then copied back from there.

    Returns:
        exit code and error stream.
    """
    script = f'{mount} || exit 77; "$@"; code=$?; cp -a {work_dir} {work_dir}.kept; exit $code'
    done = subprocess.run(
        ['unshare', '-rm', 'sh', '-c', script, 'sh', sys.executable, *command(tree, work_dir, *arguments)],
        cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 77 or 'unshare' in done.stderr:
        pytest.skip(f'file systems cannot be mounted here: {done.stderr}')
    shutil.rmtree(work_dir)
    Path(f'{work_dir}.kept').rename(work_dir)
    return done.returncode, done.stderr


@pytest.mark.skipif(not shutil.which('unshare'), reason='unshare is missing')
def test_a_full_disk(tree, train, whole, tmp_path):
    work_dir = tmp_path / 'full'
    work_dir.mkdir()
    code, messages = mounted(tree, work_dir, f'mount -t tmpfs -o size=1200k tmpfs {work_dir}')
    assert_reported(code, messages, r'cannot write \S+/task_0/checkpoint\.pth', 'No space left on device', '--resume')
    assert (work_dir / 'task_0/checkpoint_previous.pth').exists()
    assert_resumed(train, work_dir, whole)


@pytest.mark.skipif(not shutil.which('unshare'), reason='unshare is missing')
def test_a_read_only_work_dir(tree, train, whole, base):
    mount = f'mount --bind {base} {base} && mount -o remount,bind,ro {base}'
    code, messages = mounted(tree, base, mount, '--resume')
    assert_reported(code, messages, str(base), 'Read-only file system', '--work-dir')
    assert_resumed(train, base, whole)


def test_a_work_dir_below_a_file(train, tmp_path):
    (tmp_path / 'file').touch()
    assert_reported(*train(tmp_path / 'file/run'), 'file/run cannot be written', 'Not a directory', '--work-dir')


def test_a_task_folder_that_cannot_be_made(train, whole, base):
    (base / 'task_1').touch()
    assert_reported(*train(base, '--resume'), 'task_1', '--resume')
    (base / 'task_1').unlink()
    assert_resumed(train, base, whole)


@pytest.fixture
def before_task(monkeypatch):
    """Lets something happen in mid-run: after all checks, before the first batch of a task."""
    @contextlib.contextmanager
    def happen(event):
        original = FreezeHook.before_train

        def before_train(hook, runner):
            event()
            original(hook, runner)
        with monkeypatch.context() as patch:
            patch.setattr(FreezeHook, 'before_train', before_train)
            yield
    return happen


@pytest.mark.parametrize(('file', 'workers'), [
    ('JPEGImages/2007_000016.jpg', 1), ('SegmentationClassAug/2007_000016.png', 0), ('SaliencyMap/2007_000016.png', 0)])
def test_a_file_that_disappears_in_mid_run(tree, train, whole, base, tmp_path, before_task, file, workers):
    with before_task(lambda: (tree / file).rename(tmp_path / 'away')):
        failed = train(base, '--resume', **{'train_dataloader.num_workers': workers})
    (tmp_path / 'away').rename(tree / file)
    assert_reported(*failed, f'{file} is missing')
    assert_resumed(train, base, whole)


def test_a_data_loader_worker_that_is_killed(train, whole, base, monkeypatch):
    original, this = LoadImage.transform, os.getpid()

    def killed(self, results):
        if os.getpid() == this:
            return original(self, results)
        os.kill(os.getpid(), signal.SIGKILL)
    with monkeypatch.context() as patch:
        patch.setattr(LoadImage, 'transform', killed)
        failed = train(base, '--resume', **{'train_dataloader.num_workers': 1})
    assert_reported(*failed, r'a process that loads images died \(DataLoader worker', 'num_workers', '--resume')
    assert_resumed(train, base, whole)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_loss_that_is_no_number(train, whole, base, monkeypatch, value):
    images = []
    loss, before_train_iter = SigmoidBCELoss.grid_sum, SeedHook.before_train_iter

    def spoiled(self, *args):
        return loss(self, *args) * (value if len(images) == 5 else 1)

    def noted(hook, runner, batch_idx, data_batch):
        images.append([Path(sample.img_path).name for sample in data_batch['data_samples']])
        before_train_iter(hook, runner, batch_idx, data_batch)
    with monkeypatch.context() as patch:
        patch.setattr(SigmoidBCELoss, 'grid_sum', spoiled)
        patch.setattr(SeedHook, 'before_train_iter', noted)
        failed = train(base, '--resume')
    where = f'iteration 4 on the images {", ".join(images[-1])};'
    assert_reported(*failed, f'loss of task 1 is {value} at {where}', '--resume')
    # The iteration after the first checkpoint of three: it is gone on from there.
    assert load_state(base / 'task_1/checkpoint.pth')['iter'] == 3
    assert_resumed(train, base, whole)


@OPTIM_WRAPPERS.register_module()
class CPUScaler(AmpOptimWrapper):
    """mmengine's scaler of losses, which it builds for GPUs alone, so high that the first gradients overflow."""

    def __init__(self, **options):
        OptimWrapper.__init__(self, **options)
        self._scale_update_param = None
        self.cast_dtype = torch.bfloat16
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=2.**127)


def test_steps_that_a_scaler_skips_are_no_fault(train, tmp_path, monkeypatch):
    scales = []
    step = CPUScaler.step

    def noted(self, **options):
        step(self, **options)
        scales.append(self.loss_scaler.get_scale())
    monkeypatch.setattr(CPUScaler, 'step', noted)
    code, messages = train(tmp_path, **{'optim_wrapper.type': 'CPUScaler'})
    assert code == 0, messages
    assert min(scales) < 2.**127 and len(set(scales)) < len(scales) == 15 + 9  # some were skipped, others not
    for state in outcome(tmp_path)[-1]:
        assert all(value.isfinite().all() for value in state['state_dict'].values())


def test_memory_that_runs_out_in_training(train, whole, base, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(SigmoidBCELoss, 'grid_sum', lambda *_: torch.empty(10**15))
        failed = train(base, '--resume')
    assert_reported(*failed, 'memory is full', "can't allocate memory", 'batch_size')
    assert_resumed(train, base, whole)


def test_memory_that_runs_out_in_the_feature_cache(monkeypatch):
    messages = []
    monkeypatch.setattr(feature_cache, 'print_log', lambda message, **_: messages.append(message))
    cache = FeatureCache('float32', limit=100)
    labels = torch.zeros(1, 1, dtype=torch.uint8)
    view = torch.empty(1, 2500, 2500)
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    with limited(resource.RLIMIT_AS, used + 400_000_000):
        for number in range(40):
            cache.put(number, [view.fill_(number)], labels)
    assert 1 < len(cache) < 40 and len(messages) == 1 and f'is full: {len(cache)} views' in messages[0]
    assert all((cache[number].features[0] == number).all() for number in range(len(cache)))


def test_a_disk_without_room_for_the_feature_cache(tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr(feature_cache, 'print_log', lambda message, **_: messages.append(message))
    with limited(resource.RLIMIT_FSIZE, 100_000):
        cache = FeatureCache('float32', 'disk', .001, tmp_path)
        cache.put(0, [torch.zeros(1, 9, 9)], torch.zeros(1, 1, dtype=torch.uint8))
    assert len(cache) == 0 and not list(tmp_path.iterdir())
    assert len(messages) == 1 and 'is full (File too large): 0 views' in messages[0]


def test_the_feature_cache_respects_the_limit_of_a_container(tmp_path, monkeypatch):
    for name, content in (('max', '1000'), ('used', '400'), ('none', 'max'), ('memory.stat', 'inactive_file 0')):
        (tmp_path / name).write_text(f'{content}\n')
    names = [('none', 'used'), ('max', 'used'), ('missing', 'missing')]
    monkeypatch.setattr(machine, 'MEMORY_GROUPS', {
        str(kind): (tmp_path, *files, 'inactive_file') for kind, files in enumerate(names)})
    assert FeatureCache().limit == 300
