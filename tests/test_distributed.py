"""Several processes give what one gives."""
import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmseg.registry import HOOKS
from tiny import (
    METHODS,
    ROOT,
    has_memory,
    held,
    samples_of,
    started,
    tiny_config,
    tiny_model,
    tiny_options,
    voc_tree,
)
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

from ssul_mmseg.engine.launch import leave_processes
from ssul_mmseg.engine.processes import unwrap
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.work_dir.weights import load_state


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', num_images=37)


def command(tree, work_dir, processes, resume=False, tasks='0-1', config='configs/ssul/voc_15-1_m.py', **options):
    # At the usual learning rate this tiny network is chaotic: rounding alone would grow beyond any tolerance.
    options = {**tiny_options(tree), 'scenario.name': '19-1', 'memory.size': 10, 'train_cfg.max_epochs': 2,
               'train_dataloader.batch_size': 4, 'optim_wrapper.optimizer.lr': .001, **options}
    arguments = ['--work-dir', str(work_dir), '--tasks', str(tasks), *(['--resume'] if resume else []), '--cfg-options',
                 *(f'{key}={value}'.replace(' ', '') for key, value in options.items())]
    return [sys.executable, 'tools/train.py', config, *arguments] if processes is None else [
        'tools/dist_train.sh', config, str(processes), *arguments]


def environment():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    return {**os.environ, 'PORT': port, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '',
            'PATH': f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'}


def train(*args, **options):
    done = subprocess.run(command(*args, **options), cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'FutureWarning' not in done.stderr


def outcome(work_dir):
    results = json.loads((work_dir / 'results.json').read_text())
    memory = (work_dir / 'task_1/memory.json').read_text()
    return results, memory, [load_state(work_dir / f'task_{t}/weights.pth')['state_dict'] for t in (0, 1)]


def assert_same(work_dir, other):
    (one, memory, weights), (two, memory_two, weights_two) = outcome(work_dir), outcome(other)
    assert memory == memory_two
    for task, (a, b) in enumerate(zip(weights, weights_two, strict=True)):
        for key, value in a.items():
            torch.testing.assert_close(b[key], value, rtol=1e-4, atol=1e-5, msg=lambda m, k=key, t=task: f'{t} {k} {m}')
    for a, b in zip(one['tasks'], two['tasks'], strict=True):
        assert (a['num_images'], a['memory']) == (b['num_images'], b['memory'])
        assert a['mIoU']['all'] == pytest.approx(b['mIoU']['all'], abs=1e-3)


@pytest.fixture(scope='module')
def one(tree, tmp_path_factory):
    """One process; its task 0 ends in an uneven batch, its task 1 is smaller than a batch."""
    work_dir = tmp_path_factory.mktemp('one')
    train(tree, work_dir, None)
    images = [entry['num_images'] for entry in outcome(work_dir)[0]['tasks']]
    assert images[0] % 4 and images[1] < 4
    return work_dir


@pytest.mark.parametrize('processes', [1, 2, 4])
def test_processes_of_a_launcher_equal_one_without(tree, one, tmp_path, processes):
    train(tree, tmp_path, processes)
    assert_same(one, tmp_path)


def test_processes_share_the_feature_cache(tree, one, tmp_path):
    """Batches of two shared unevenly: in some, all images are those of one process."""
    cached = {'feature_cache.views': 1, 'incremental.train_cfg.max_epochs': 4, 'train_dataloader.batch_size': 2}
    for processes, name in ((None, 'alone'), (2, 'shared')):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'task_0').symlink_to(one / 'task_0')
        train(tree, tmp_path / name, processes, tasks=1, **cached)
    assert_same(tmp_path / 'alone', tmp_path / 'shared')


def run_given(rank, folder, given, answers):
    """A process of two: run each config that is given, and answer when it has ended."""
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)  # as a launcher sets it
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    while arguments := given[rank].get():
        cfg = method_config(*arguments)
        cfg.launcher = 'pytorch'  # without one mmengine would wrap no network
        run_scenario(cfg)
        answers.put(rank)
    leave_processes()


def wait_for(answers, processes):
    """Wait for an answer; if a process fails, raise its fault and end the other, which would wait for it for ever."""
    for _ in range(300):
        with contextlib.suppress(queue.Empty):
            return answers.get(timeout=1)
        assert not processes.join(timeout=0), 'the processes ended in an earlier test'
    raise TimeoutError('no process has answered within 300 seconds')


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """Two processes that run configs, one after the other: what loads them costs more than a tiny run."""
    context = torch.multiprocessing.get_context('spawn')
    given, answers = [context.Queue(), context.Queue()], context.Queue()
    processes = torch.multiprocessing.spawn(
        run_given, (str(tmp_path_factory.mktemp('pair')), given, answers), nprocs=2, join=False)

    def run(*arguments):
        for inbox in given:
            inbox.put(arguments)
        ended = {wait_for(answers, processes) for _ in given}
        assert ended == {0, 1}
    yield run
    for inbox in given:
        inbox.put(None)
    processes.join()


def method_config(tree, work_dir, method, cached):
    """A tiny config of one of METHODS; at the usual learning rate such a network would be chaotic."""
    own = {'plop/voc_15-1': {'model.median': 'exact', 'model.entropy': 'normalised'}}.get(method, {})
    if cached:  # as the rows of configs/tables/voc_lite_table1.toml, where images pass the backbone once
        own |= {'model.freeze_backbone': True, 'feature_cache': dict(views=2)}
    return tiny_config(tree, work_dir, f'configs/{method}.py', **{
        'scenario.name': '19-1', 'train_cfg.max_epochs': 1, 'incremental.train_cfg.max_epochs': 3,
        'optim_wrapper.optimizer.lr': .001, **({'memory.size': 10} if has_memory(method) else {}), **own})


# The two that gather something over images and iterations; the others take minutes.
QUICK = ('ewc/voc_15-1', 'plop/voc_15-1')


@pytest.mark.parametrize(('method', 'cached'), [
    pytest.param(method, cached, marks=() if method in QUICK and not cached else pytest.mark.slow,
                 id=f'{method}, frozen backbone' if cached else method)
    for method in METHODS for cached in (False, True)])
def test_processes_share_what_a_method_gathers(tree, pair, tmp_path, method, cached):
    """The gradients' average of EWC, the medians of PLOP and its means over images; of others their loss."""
    run_scenario(method_config(tree, tmp_path / 'alone', method, cached))
    pair(tree, tmp_path / 'shared', method, cached)
    tasks = sorted(path.name for path in (tmp_path / 'alone').glob('task_*'))
    assert len(tasks) == (1 if method.startswith('joint') else 2)
    one, two = (load_state(tmp_path / name / tasks[-1] / 'weights.pth') for name in ('alone', 'shared'))
    assert one['state_dict'] and (one['method_state'] or not method.startswith('ewc'))
    for part in ('state_dict', 'method_state'):
        assert one[part].keys() == two[part].keys()
        for key, value in one[part].items():
            torch.testing.assert_close(two[part][key], value, rtol=1e-3, atol=1e-5, msg=lambda m, k=key: f'{k} {m}')


def test_normalisation_in_classifiers_bears_uneven_shares_and_low_precision(tree, tmp_path):
    """The authors' classifier, cached features, mixed precision: a process may hold no image of a batch."""
    train(tree, tmp_path, 2, **{
        'model.decode_head.classifier': 'conv', 'feature_cache.views': 1, 'train_dataloader.batch_size': 2,
        'optim_wrapper.type': 'BFloat16OptimWrapper'})
    for key, value in load_state(tmp_path / 'task_1/weights.pth')['state_dict'].items():
        assert value.isfinite().all(), key


def test_a_dead_process_ends_the_others_and_another_number_goes_on(tree, one, tmp_path):
    (tmp_path / 'held').mkdir()
    _, config, processes, *arguments = command(tree, tmp_path / 'run', 2, **{'checkpoint.interval': 1})
    variables = environment() | {'PYTHONPATH': str(ROOT)}
    launcher = [sys.executable, '-m', 'torch.distributed.run', f'--master_port={variables["PORT"]}',
                f'--nproc_per_node={processes}', 'HELD', 'tools/train.py', config, '--launcher', 'pytorch', *arguments]
    epoch = outcome(one)[0]['tasks'][0]['num_images'] // 4
    with held(launcher, 0, epoch, tmp_path / 'held', ranks=2, env=variables) as (run, ids):
        os.kill(ids[1], signal.SIGKILL)
        _, message = run.communicate()
    assert run.returncode != 0 and 'SIGKILL' in message
    folder = tmp_path / 'run/task_0'
    assert (folder / 'checkpoint.pth').exists() and not (folder / 'weights.pth').exists()
    train(tree, tmp_path / 'run', None, resume=True)
    assert_same(one, tmp_path / 'run')


def reduced_bytes():
    """What one step reduces over the processes, what it could learn, and the whole model."""
    model = started(tiny_model([3, 2]), tiny_model([3]))
    wrapped = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)
    counted = []

    def count(state, bucket):
        counted.append(bucket.buffer().nbytes)
        return default_hooks.allreduce_hook(state, bucket)

    wrapped.register_comm_hook(None, count)
    labels = torch.randint(0, 5, (2, 24, 24), dtype=torch.uint8)
    losses = wrapped(torch.randn(2, 3, 24, 24), samples_of(labels), mode='loss')
    sum(losses.values()).backward()
    return (sum(counted), sum(p.nbytes for p in model.parameters() if p.requires_grad),
            sum(p.nbytes for p in model.parameters()))


def put_reduced_bytes(rank, folder, queue):
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    found = reduced_bytes()
    if rank == 0:
        queue.put(found)
    leave_processes()


def test_only_what_learns_is_reduced_over_processes(tmp_path):
    queue = torch.multiprocessing.get_context('spawn').SimpleQueue()
    torch.multiprocessing.spawn(put_reduced_bytes, (str(tmp_path), queue), nprocs=2)
    reduced, learning, everything = queue.get()
    # Background, unknown and two classes: four 1x1 filters of eight channels and their biases, four bytes each.
    assert reduced == learning == 4 * 4 * (8 + 1) < everything / 100


@HOOKS.register_module()
class NoteFilters(Hook):
    """Notes the filters of task 1 as its first iteration finds them, and what its process keeps of it."""

    filters, kept = None, frozenset()

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.task == 1 and runner.iter == 0:
            filters = unwrap(runner.model).decode_head.classifiers['task_1'][-1].weight
            NoteFilters.filters = filters.detach().flatten().tolist()
        if runner.task == 1:
            NoteFilters.kept |= frozenset(runner.train_loop.cache._entries)


def put_what_a_process_has(rank, folder, queue):
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    cfg = tiny_config(Path(folder, 'voc'), Path(folder, 'run'), **{
        'scenario.name': '15-5', 'train_cfg.max_epochs': 1, 'feature_cache': dict(views=1),
        'model.weight_transfer': 'random', 'randomness.diff_rank_seed': True,
        'incremental': dict(train_cfg=dict(max_epochs=4))})
    cfg.custom_hooks = [dict(type='NoteFilters')]
    run_scenario(cfg)
    queue.put((NoteFilters.filters, sorted(position for position, _ in NoteFilters.kept)))
    leave_processes()


def test_processes_start_from_the_same_new_filters_and_keep_each_image_once(tmp_path):
    """New filters are drawn by each process, with a seed of its own if the config says so."""
    voc_tree(tmp_path / 'voc', 24)
    queue = torch.multiprocessing.get_context('spawn').SimpleQueue()
    torch.multiprocessing.spawn(put_what_a_process_has, (str(tmp_path), queue), nprocs=2)
    (filters, kept), (others, kept_there) = queue.get(), queue.get()
    assert filters == others and any(filters)
    assert len(kept) > 2 < len(kept_there) and not set(kept) & set(kept_there)


def test_an_error_of_one_process_ends_all_with_its_sentence(tree, tmp_path):
    arguments = ['tools/dist_train.sh', 'configs/ssul/voc_15-1.py', '2', '--work-dir', str(tmp_path), '--cfg-options',
                 f'data_root={tree}', 'test_dataloader.dataset.dataset.data_root=/nowhere',
                 'train_dataloader.batch_size=4']
    done = subprocess.run(arguments, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode != 0 and 'error:' in done.stderr and '/nowhere' in done.stderr
    assert not list(tmp_path.glob('task_*'))
