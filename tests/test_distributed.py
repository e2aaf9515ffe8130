"""Several processes give what one gives."""
import json
import os
import subprocess
import sys

import pytest
import torch
from tiny import ROOT, tiny_options, voc_tree

from ssul_mmseg.weights import load_state


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc')


def train(tree, work_dir, processes, port, **options):
    options = {**tiny_options(tree), 'scenario.name': '19-1', 'memory.size': 10, 'train_cfg.max_epochs': 2,
               'model.decode_head.dropout_ratio': 0, 'train_dataloader.batch_size': 4, **options}
    arguments = ['--work-dir', str(work_dir), '--cfg-options',
                 *(f'{key}={value}'.replace(' ', '') for key, value in options.items())]
    config = 'configs/ssul/voc_15-1_m.py'
    command = [sys.executable, 'tools/train.py', config, *arguments] if processes == 1 else [
        'tools/dist_train.sh', config, str(processes), *arguments]
    environment = {**os.environ, 'PORT': str(port), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '',
                   'PATH': f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def outcome(work_dir):
    results = json.loads((work_dir / 'results.json').read_text())
    memory = (work_dir / 'task_1/memory.json').read_text()
    return results, memory, [load_state(work_dir / f'task_{t}/weights.pth')['state_dict'] for t in (0, 1)]


def test_two_processes_equal_one(tree, tmp_path):
    train(tree, tmp_path / 'one', 1, 0)
    train(tree, tmp_path / 'two', 2, 29611)
    (one, memory, weights), (two, memory_two, weights_two) = outcome(tmp_path / 'one'), outcome(tmp_path / 'two')
    assert memory == memory_two
    for task, (a, b) in enumerate(zip(weights, weights_two, strict=True)):
        for key, value in a.items():
            torch.testing.assert_close(b[key], value, rtol=2e-3, atol=2e-4, msg=lambda m, k=key, t=task: f'{t} {k} {m}')
    for a, b in zip(one['tasks'], two['tasks'], strict=True):
        assert (a['num_images'], a['memory']) == (b['num_images'], b['memory'])
        assert a['mIoU']['all'] == pytest.approx(b['mIoU']['all'], abs=.5)


def test_an_error_of_one_process_ends_all_with_its_sentence(tree, tmp_path):
    command = ['tools/dist_train.sh', 'configs/ssul/voc_15-1.py', '2', '--work-dir', str(tmp_path), '--cfg-options',
               'train_dataloader.dataset.dataset.data_root=/nowhere', 'train_dataloader.batch_size=4']
    environment = {**os.environ, 'PORT': '29612', 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '',
                   'PATH': f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and 'error:' in done.stderr and '/nowhere' in done.stderr
    assert not list(tmp_path.glob('task_*'))
