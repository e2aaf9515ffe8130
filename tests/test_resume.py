"""A run that is stopped anywhere and resumed ends in the same numbers, bit by bit."""
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmseg.registry import MODELS
from PIL import Image
from tiny import METHODS, ROOT, has_memory, held, tiny_config, tiny_options, voc_tree

from ssul_mmseg.datasets.memory import ExemplarMemory
from ssul_mmseg.engine import checkpoint_hook, resume, runner, scenario_loop, weights_hook
from ssul_mmseg.engine.checkpoint_hook import CheckpointResumeHook
from ssul_mmseg.engine.resume import check_same_run, record_run
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.seed_hook import SeedHook
from ssul_mmseg.engine.solve_loop import TaskSolveLoop
from ssul_mmseg.errors import InputError
from ssul_mmseg.work_dir.layout import task_dirs
from ssul_mmseg.work_dir.weights import load_state, save_state, save_weights

CONFIG = 'configs/ssul/voc_15-1_m.py'
# Three epochs: 3 x 5 iterations in task 0, 3 x 3 in task 1.
COMMON = {'scenario.name': '15-5', 'train_cfg.max_epochs': 3, 'memory.size': 8, 'model.decode_head.dropout_ratio': .5}
VARIANTS = {
    'feature cache': {'feature_cache': dict(views=2), 'checkpoint.interval': 3, 'checkpoint.by_epoch': False},
    # A schedule that moves at the ends of epochs, gradients added up over iterations, mixed precision.
    'no cache': {'checkpoint.interval': 1, 'optim_wrapper.type': 'BFloat16OptimWrapper',
                 'optim_wrapper.accumulative_counts': 2,
                 'param_scheduler': [dict(type='MultiStepLR', milestones=[2], by_epoch=True)]},
}


class StoppedError(BaseException):
    """What stops a run, past every handler of errors."""


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', 24)


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """The runs of this process and of others must agree in every bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def undisturbed(tree, tmp_path_factory):
    """Work dirs of undisturbed runs, by variant."""
    made = {}

    def of(variant):
        if variant not in made:
            made[variant] = tmp_path_factory.mktemp('undisturbed')
            run_scenario(config(tree, made[variant], variant))
        return made[variant]
    return of


@pytest.fixture(scope='module')
def stopped(tree, tmp_path_factory):
    """The work dir of a run that was stopped in task 1 before iteration 8, with two checkpoints; copy it."""
    work_dir = tmp_path_factory.mktemp('stopped')
    with pytest.MonkeyPatch.context() as patch:
        stop(patch, *iteration(1, 8))
        with pytest.raises(StoppedError):
            run_scenario(config(tree, work_dir))
    assert {'checkpoint.pth', 'checkpoint_previous.pth'} <= {path.name for path in (work_dir / 'task_1').iterdir()}
    return work_dir


@pytest.fixture
def seen(monkeypatch, tmp_path):
    """Where training begins in the test's own runs, (task, iteration), and the warnings about torn files."""
    seen = SimpleNamespace(starts=[], warnings=[])
    original = CheckpointResumeHook.before_train

    def before_train(hook, runner):
        original(hook, runner)
        if tmp_path in Path(runner.work_dir).parents:  # not a run that a fixture makes
            seen.starts.append((runner.task, runner.iter))
    monkeypatch.setattr(CheckpointResumeHook, 'before_train', before_train)
    monkeypatch.setattr(resume, 'print_log', lambda message, **_: seen.warnings.append(message))
    return seen


def config(tree, work_dir, variant='feature cache', **options):
    return tiny_config(tree, work_dir, CONFIG, **COMMON | VARIANTS[variant] | options)


def stop(patch, owner, name, when=lambda *args, **kwargs: True):
    """Let a run stop when it calls ``owner.name`` with certain arguments."""
    original = getattr(owner, name)

    def stopping(*args, **kwargs):
        if when(*args, **kwargs):
            raise StoppedError
        return original(*args, **kwargs)
    patch.setattr(owner, name, stopping)


def iteration(task, number):
    """Where to :func:`stop` before an iteration of a task."""
    return SeedHook, 'before_train_iter', lambda hook, runner, *_, **__: (
        (runner.task, runner.iter) == (task, number))


def in_task(owner, name, task):
    """Where to :func:`stop` a function that gets a path in the folder of a task."""
    return owner, name, lambda *args, **_: any(f'task_{task}/' in str(arg) for arg in args)


# Where a run stops, and where training begins then: at the last checkpoint.
STOPS = {
    'feature cache': [
        ((0, 0), iteration(0, 4)),
        ((0, 3), iteration(0, 8)),
        ((0, 6), (runner.TaskRunner, 'test')),  # the weights are written, but not evaluated
        (None, in_task(scenario_loop, 'write_json', 0)),  # evaluated, but no result written
        (None, (scenario_loop, 'write_results')),  # between tasks
        ((1, 0), iteration(1, 0)),
        ((1, 0), iteration(1, 5)),
        ((1, 3), in_task(checkpoint_hook, 'save_state', 1)),  # writing a checkpoint
        ((1, 3), iteration(1, 8)),
        ((1, 6), in_task(ExemplarMemory, 'write', 1)),
        ((1, 6), in_task(weights_hook, 'save_weights', 1)),  # the memory is written
    ],
    # Gradients of two iterations are added up: where an epoch ends between them, the second of them will do.
    'no cache': [
        ((0, 0), iteration(0, 11)),
        ((0, 10), iteration(1, 5)),
        ((1, 4), in_task(weights_hook, 'save_weights', 1)),
    ],
}


def results(work_dir):
    """The results document without time and memory."""
    document = json.loads((work_dir / 'results.json').read_text())
    for entry in document['tasks']:
        assert entry.pop('seconds') >= 0
        del entry['peak_memory']
    return document


def assert_same(work_dir, expected):
    for task in range(len(results(expected)['tasks'])):
        weights, whole = (load_state(place / f'task_{task}/weights.pth') for place in (work_dir, expected))
        assert weights['meta'] == whole['meta']
        for part in ('state_dict', 'method_state'):
            assert weights[part].keys() == whole[part].keys()
            for key, value in whole[part].items():
                assert torch.equal(weights[part][key], value), f'task {task} {part} {key}'
    manifests, whole = ({path.parent.name: path.read_bytes() for path in place.glob('task_*/memory.json')}
                        for place in (work_dir, expected))
    assert manifests == whole
    assert results(work_dir) == results(expected)
    assert not [*work_dir.rglob('.*.tmp'), *work_dir.rglob('checkpoint*.pth'), *work_dir.rglob('features_*')]


@pytest.mark.parametrize('variant', VARIANTS)
def test_a_run_stopped_everywhere_ends_in_the_same_numbers(tree, undisturbed, tmp_path, monkeypatch, seen, variant):
    cfg = config(tree, tmp_path, variant)
    for number, (begin, place) in enumerate(STOPS[variant]):
        with monkeypatch.context() as patch:
            stop(patch, *place)
            with pytest.raises(StoppedError):
                run_scenario(cfg, resume=number > 0)
        assert seen.starts[:1] == ([begin] if begin else [])
        seen.starts.clear()
    run_scenario(cfg, resume=True)
    assert seen.starts == [(1, 6)] and not seen.warnings
    assert_same(tmp_path, undisturbed(variant))


def run_killed(cfg, task, **options):
    """Run in a child process that is killed in a task: before iteration 3, or in the pass over its images."""
    child = os.fork()
    if child == 0:
        def killing(place, name, when):
            original = getattr(place, name)

            def killing_itself(*args, **kwargs):
                if when(*args, **kwargs):
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **kwargs)
            setattr(place, name, killing_itself)
        killing(*iteration(task, 3))
        killing(TaskSolveLoop, '_group_done', lambda loop, *_, **__: loop.runner.task == task)
        try:
            run_scenario(cfg, **options)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


# The second as the rows of configs/tables/voc_lite_table1.toml: images pass the backbone once; and with exemplars.
@pytest.mark.parametrize('cached', [False, True], ids=['plain', 'frozen backbone and memory'])
@pytest.mark.parametrize('method', METHODS)
def test_every_method_goes_on_in_mid_task(tree, tmp_path, method, cached):
    options = {'scenario.name': '15-5', 'checkpoint.interval': 1, 'checkpoint.by_epoch': False,
               'train_cfg.max_epochs': 1, 'incremental.train_cfg.max_epochs': 4,
               **({'memory.size': 8} if cached or has_memory(method) else {}),
               **({'model.freeze_backbone': True, 'feature_cache': dict(views=2)} if cached else {})}
    path = f'configs/{method}.py'
    whole, parts = (tiny_config(tree, tmp_path / name, path, **options) for name in ('whole', 'parts'))
    for task in range(len(run_scenario(whole)['tasks'])):
        run_killed(parts, task, resume=task > 0)
        checkpoint = tmp_path / f'parts/task_{task}/checkpoint.pth'
        if task > 0 and getattr(MODELS.get(whole.model.type), 'solves', False):
            assert not checkpoint.exists()  # it begins anew
        else:
            assert load_state(checkpoint)['iter'] == 3
    run_scenario(parts, resume=True)
    assert_same(tmp_path / 'parts', tmp_path / 'whole')


@pytest.mark.parametrize(('path', 'options', 'place'), [
    # Two images in a batch of 16, an exemplar for three of 19 classes.
    (CONFIG, {'scenario.name': '19-1', 'memory.size': 3, 'feature_cache': dict(views=2)}, iteration(1, 2)),
    ('configs/joint/voc_15-1.py', {}, iteration(0, 2)),
], ids=['fewer images than a batch', 'one task'])
def test_small_and_odd_tasks_go_on_too(tree, tmp_path, monkeypatch, path, options, place):
    options = {'train_dataloader.batch_size': 16, 'train_cfg.max_epochs': 4, 'checkpoint.interval': 1, **options}
    whole, parts = (tiny_config(tree, tmp_path / name, path, **options) for name in ('whole', 'parts'))
    run_scenario(whole)
    with monkeypatch.context() as patch:
        stop(patch, *place)
        with pytest.raises(StoppedError):
            run_scenario(parts)
    assert list((tmp_path / 'parts').glob('task_*/checkpoint.pth'))
    run_scenario(parts, resume=True)
    assert_same(tmp_path / 'parts', tmp_path / 'whole')


def broken(path, how):
    """Damage a file."""
    content = bytearray(path.read_bytes())
    if how == 'cut':
        content = content[:len(content) * 2 // 3]
    elif how == 'empty':
        content = b''
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(('torn', 'start'), [
    (['checkpoint.pth'], (1, 3)), (['checkpoint.pth', 'checkpoint_previous.pth'], (1, 0))], ids=['one', 'both'])
def test_a_torn_checkpoint_costs_time_alone(tree, undisturbed, stopped, tmp_path, seen, torn, start):
    work_dir = tmp_path / 'work'
    shutil.copytree(stopped, work_dir)
    for name, how in zip(torn, ('cut', 'flipped'), strict=False):
        broken(work_dir / 'task_1' / name, how)
    run_scenario(config(tree, work_dir), resume=True)
    assert seen.starts == [start]
    assert len(seen.warnings) == len(torn)
    for name, warning in zip(torn, seen.warnings, strict=True):
        assert re.search(f'task_1/{name} is torn.*{name}.torn.*task 1 goes on from what is whole', warning)
    assert_same(work_dir, undisturbed('feature cache'))


def test_what_is_torn_in_a_finished_task_is_made_again(tree, undisturbed, tmp_path, seen):
    work_dir = tmp_path / 'work'
    shutil.copytree(undisturbed('feature cache'), work_dir)
    broken(work_dir / 'task_0/memory.json', 'cut')
    broken(work_dir / 'task_1/result.json', 'empty')
    run_scenario(config(tree, work_dir), resume=True)
    # A manifest needs no training.
    assert seen.starts == [] and len(seen.warnings) == 2
    assert_same(work_dir, undisturbed('feature cache'))
    broken(work_dir / 'task_1/weights.pth', 'flipped')
    run_scenario(config(tree, work_dir), resume=True)
    assert seen.starts == [(1, 0)] and 'task_1/weights.pth is torn' in seen.warnings[2]
    assert_same(work_dir, undisturbed('feature cache'))


@pytest.mark.parametrize('name', ['weights.pth', 'memory.json'])
def test_a_task_does_not_start_from_a_torn_one(tree, undisturbed, tmp_path, name):
    work_dir = tmp_path / 'work'
    shutil.copytree(undisturbed('feature cache'), work_dir)
    shutil.rmtree(work_dir / 'task_1')
    broken(work_dir / 'task_0' / name, 'cut')
    with pytest.raises(InputError, match=rf'task_0/{name}'):
        run_scenario(config(tree, work_dir), range(1, 2))


def test_every_flipped_byte_and_every_cut_is_noticed(tmp_path):
    path = tmp_path / 'state.pth'
    state = {'state_dict': {'a': torch.randn(20), 'b': torch.arange(3)}, 'iter': 5}
    save_state(path, state)
    content = path.read_bytes()
    noticed = 0
    # Bit 4 marks an entry of the archive as a folder.
    for place, bit in product(range(len(content)), (3, 4)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            read = load_state(path)
        except InputError:
            noticed += 1
            continue
        # Bytes that mean nothing: padding, and what is said twice.
        assert torch.equal(read['state_dict']['a'], state['state_dict']['a'])
        assert torch.equal(read['state_dict']['b'], state['state_dict']['b']) and read['iter'] == 5
    assert noticed > 2 / 3 * len(content)
    for length in range(0, len(content), 20):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r'state\.pth'):
            load_state(path)


def test_a_finished_run_is_left_as_it_is(tree, undisturbed, tmp_path, seen):
    work_dir = tmp_path / 'work'
    shutil.copytree(undisturbed('feature cache'), work_dir)
    before = {path: path.stat().st_mtime_ns for path in work_dir.glob('task_*/*')}
    table = (work_dir / 'results.md').read_text()
    run_scenario(config(tree, work_dir), resume=True)
    assert not seen.starts and table == (work_dir / 'results.md').read_text()
    assert before == {path: path.stat().st_mtime_ns for path in work_dir.glob('task_*/*')}
    assert_same(work_dir, undisturbed('feature cache'))


def test_what_cannot_matter_may_differ(tree, undisturbed, stopped, tmp_path, seen):
    work_dir = tmp_path / 'moved'
    shutil.copytree(stopped, work_dir)
    options = {'checkpoint.interval': 2, 'train_dataloader.num_workers': 1, 'test_dataloader.num_workers': 1,
               'default_hooks.logger.interval': 1, 'log_level': 'DEBUG'}
    run_scenario(config(tree, work_dir, **options), resume=True)
    assert seen.starts == [(1, 6)]
    assert_same(work_dir, undisturbed('feature cache'))


def test_another_config_is_refused_by_the_keys_that_differ(tree, stopped):
    before = {path: path.stat().st_mtime_ns for path in stopped.rglob('*')}
    other = config(tree, stopped, **{'model.tau': None, 'randomness.seed': 1, 'train_dataloader.num_workers': 3})
    with pytest.raises(InputError, match=r'\(model\.tau: not set, now None; randomness\.seed: 0, now 1\)'):
        run_scenario(other, resume=True)
    before.pop(stopped / '.lock')
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_config_that_never_trained_binds_nobody(tree, tmp_path):
    other, cfg = config(tree, tmp_path, **{'model.tau': .9}), config(tree, tmp_path)
    for record in (other, cfg):
        check_same_run(record, range(2), resume=False)
        record_run(record)
        (tmp_path / 'task_0').mkdir(exist_ok=True)
        (tmp_path / 'task_0/log.txt').touch()
    (tmp_path / 'task_0/checkpoint.pth').touch()
    check_same_run(cfg, range(2), resume=True)
    with pytest.raises(InputError, match='tau'):
        check_same_run(other, range(2), resume=True)
    with pytest.raises(InputError, match=r'task 0 is in .* already'):
        check_same_run(cfg, range(2), resume=False)


def test_a_run_whose_record_is_lost_does_not_go_on(tree, undisturbed, tmp_path):
    work_dir = tmp_path / 'work'
    shutil.copytree(undisturbed('feature cache'), work_dir)
    for harm in (lambda path: path.write_text('{'), lambda path: path.unlink()):
        harm(work_dir / 'run.json')
        with pytest.raises(InputError, match=r'run\.json.*cannot be compared .*; restore the file'):
            run_scenario(config(tree, work_dir), resume=True)


def test_a_task_goes_on_from_no_other_weights_than_its_own(tree, stopped, tmp_path, seen):
    """The base task is learned again, and not the same: what was begun from it no longer fits."""
    work_dir = tmp_path / 'work'
    shutil.copytree(stopped, work_dir)
    path = work_dir / 'task_0/weights.pth'
    state = load_state(path)
    names = state['meta']['classes'], state['meta']['palette']
    moved = {key: value * 1.01 if value.is_floating_point() else value for key, value in state['state_dict'].items()}
    save_weights(path, moved, *names, 0, state['meta']['origin'])
    run_scenario(config(tree, work_dir), resume=True)
    assert seen.starts == [(1, 0)] and 'begun from other weights' in seen.warnings[0]
    assert list((work_dir / 'task_1').glob('checkpoint.pth.stale'))
    save_weights(path, state['state_dict'], *names, 0, state['meta']['origin'])
    run_scenario(config(tree, work_dir), resume=True)
    assert seen.starts == [(1, 0), (1, 0)] and 'task 1 was learned from other weights' in seen.warnings[1]


def test_a_task_goes_on_with_no_other_images_than_its_own(tree, stopped, tmp_path, seen):
    work_dir, moved = tmp_path / 'work', tmp_path / 'voc'
    shutil.copytree(stopped, work_dir)
    shutil.copytree(tree, moved)
    images = moved / 'ImageSets/Segmentation/train_aug.txt'
    names = images.read_text().split()
    del names[17]  # of classes 18 and 19
    images.write_text('\n'.join(names))
    record = json.loads((work_dir / 'run.json').read_text())
    (work_dir / 'run.json').write_text(json.dumps(record | {'data_root': str(moved)}))
    run_scenario(config(moved, work_dir), resume=True)
    assert seen.starts == [(1, 0)] and 'on other images' in seen.warnings[0]


def turned(path):
    """Write an image upside down."""
    image = Image.open(path)
    image.load()
    image.transpose(Image.Transpose.ROTATE_180).save(path)


@pytest.mark.parametrize(('image', 'folder', 'used'), [
    ('of the task', 'SegmentationClassAug', True), ('of the task', 'JPEGImages', True),
    ('of the task', 'SaliencyMap', True), ('an exemplar', 'SegmentationClassAug', True),
    ('of neither', 'SegmentationClassAug', False)])
def test_a_file_edited_in_mid_task_begins_it_anew(tree, undisturbed, stopped, tmp_path, seen, image, folder, used):
    """Copied files have other times but are the same."""
    work_dir, moved = tmp_path / 'work', tmp_path / 'voc'
    shutil.copytree(stopped, work_dir)
    shutil.copytree(tree, moved, copy_function=shutil.copy)
    exemplars = [entry['image'] for entry in json.loads((work_dir / 'task_0/memory.json').read_text())['exemplars']]
    others = [f'2007_{i:06d}.jpg' for i in range(12) if f'2007_{i:06d}.jpg' not in exemplars]
    name = {'of the task': '2007_000017.jpg', 'an exemplar': exemplars[0], 'of neither': others[0]}[image]
    (path, ) = (moved / folder).glob(f'{Path(name).stem}.*')
    turned(path)
    record = json.loads((work_dir / 'run.json').read_text())
    (work_dir / 'run.json').write_text(json.dumps(record | {'data_root': str(moved)}))
    run_scenario(config(moved, work_dir), resume=True)
    assert seen.starts == [(1, 0 if used else 6)]
    assert len(list((work_dir / 'task_1').glob('checkpoint*.pth.stale'))) == (2 if used else 0)
    if used:
        assert 'on other images or masks' in seen.warnings[0]
        # The same weights as a run that never knew the file as it was.
        fresh = tmp_path / 'fresh'
        shutil.copytree(work_dir / 'task_0', fresh / 'task_0')
        run_scenario(config(moved, fresh), range(1, 2))
        ends = [load_state(place / 'task_1/weights.pth') for place in (work_dir, fresh)]
        assert ends[0]['meta'] == ends[1]['meta']
        assert all(torch.equal(value, ends[1]['state_dict'][key]) for key, value in ends[0]['state_dict'].items())
    else:
        assert_same(work_dir, undisturbed('feature cache'))


def test_weights_that_are_no_numbers_replace_no_good_ones(tree, tmp_path):
    """A step that overflows after a finite loss: nothing of it is saved."""
    options = {'optim_wrapper.optimizer.lr': 3e38, 'optim_wrapper.optimizer.weight_decay': 10, 'checkpoint.interval': 1,
               'checkpoint.by_epoch': False}
    with pytest.raises(InputError, match=r'NaN or infinite after 1 iterations of task_0.*lower optim_wrapper'):
        run_scenario(config(tree, tmp_path, **options))
    assert not list(tmp_path.glob('task_0/*.pth'))


def command(tree, work_dir, **options):
    """The command line of a run."""
    options = {**tiny_options(tree), **COMMON, 'feature_cache.views': 2, 'checkpoint.interval': 3,
               'checkpoint.by_epoch': False, **options}
    return ['python', 'tools/train.py', str(ROOT / CONFIG), '--work-dir', str(work_dir), '--cfg-options',
            *(f'{key}={value}'.replace(' ', '') for key, value in options.items())]


@contextlib.contextmanager
def held_before(arguments, task, iteration, tmp_path):
    """A tool in a process of its own that waits before an iteration."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': str(ROOT)}
    folder = tmp_path / f'held_{task}_{iteration}'
    folder.mkdir()
    with held([sys.executable, 'HELD', *arguments[1:]], task, iteration, folder, env=environment) as (process, _):
        yield process


def test_ctrl_c_and_sigterm_end_with_the_command_to_resume(tree, undisturbed, tmp_path):
    work_dir = tmp_path / 'work dir'
    arguments = command(tree, work_dir)
    for sent, task in ((signal.SIGINT, 0), (signal.SIGTERM, 1)):
        with held_before(arguments, task, 4, tmp_path) as process:
            process.send_signal(sent)
            _, errors = process.communicate()
        assert process.returncode == 130 and 'Traceback' not in errors, errors
        assert (work_dir / f'task_{task}/checkpoint.pth').exists()
        arguments = shlex.split(re.search(r'^stopped; go on with: (.*)$', errors, re.MULTILINE)[1])
    run_scenario(config(tree, work_dir), resume=True)
    assert_same(work_dir, undisturbed('feature cache'))


def test_a_second_run_is_kept_out_as_long_as_the_first_lives(tree, undisturbed, tmp_path):
    """The first is killed with a worker process alive, which must not hold the lock."""
    work_dir = tmp_path / 'work'
    arguments = command(tree, work_dir, **{'train_dataloader.num_workers': 1})
    with held_before(arguments, 0, 4, tmp_path), pytest.raises(InputError, match='another run is at work'):
        run_scenario(config(tree, work_dir), resume=True)
    run_scenario(config(tree, work_dir), resume=True)
    assert_same(work_dir, undisturbed('feature cache'))


def test_a_copy_of_a_task_folder_is_none(tree, undisturbed, stopped, tmp_path, seen):
    work_dir = tmp_path / 'work'
    shutil.copytree(stopped, work_dir)
    copies = [work_dir / name for name in ('task_0_backup', 'task_0 (copy)', 'task_00', 'task_1_0', 'task_old')]
    for copy in copies:
        shutil.copytree(work_dir / 'task_0', copy)
    assert task_dirs(work_dir) == {task: work_dir / f'task_{task}' for task in (0, 1)}
    run_scenario(config(tree, work_dir), resume=True)
    assert seen.starts == [(1, 6)]
    for copy in copies:
        shutil.rmtree(copy)
    assert_same(work_dir, undisturbed('feature cache'))


def test_a_copy_of_a_task_folder_alone_binds_nobody(tree, undisturbed, tmp_path):
    other, cfg = config(tree, tmp_path, **{'model.tau': .9}), config(tree, tmp_path)
    record_run(other)
    shutil.copytree(undisturbed('feature cache') / 'task_0', tmp_path / 'task_0_backup')
    check_same_run(cfg, range(2), resume=False)
    record_run(cfg)
    shutil.copytree(tmp_path / 'task_0_backup', tmp_path / 'task_0')
    check_same_run(cfg, range(2), resume=True)
