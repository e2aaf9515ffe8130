"""The numbers of small seeded runs, pinned: a change of the mathematics shows.

Made on x86-64 with AVX2, on one thread, with the versions named in regression.json. Where the change is meant, renew
them with ``PYTHONPATH=tools python tests/test_regression.py`` and say in the commit why they moved. Each run is a
process of its own, as MKL reads only when it is loaded that it is to compute as processors with AVX2 do; left alone it
chooses by the processor, and on one with AVX512 the short run's losses differ by 2.5e-6.
"""
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import PIL
import pytest
import torch
from speed.measure import machine
from tiny import ROOT

from ssul_mmseg.engine.finite_hook import FiniteLossHook
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.options import read_config
from ssul_mmseg.work_dir.files import digest
from ssul_mmseg.work_dir.weights import load_state

PINNED = ROOT / 'tests/regression.json'
DATA = {'num_train': 120, 'num_test': 20, 'size': 48}
OPTIONS = {
    'crop_size': (32, 32), 'train_dataloader.batch_size': 8,
    'model.backbone.base_channels': 8, 'model.decode_head.in_channels': 64,
    'model.decode_head.channels': 16, 'model.decode_head.dropout_ratio': .1, 'memory.size': 12,
    'feature_cache.views': 2,
}
# Long enough to learn, which makes the last bit of one platform everything: training from scratch is chaotic.
LONG = {'scenario.name': '4-2', 'train_cfg.max_epochs': 16, 'incremental.train_cfg.max_epochs': 8}
# Short and slow enough that other instruction sets end in the same losses to 1e-6.
SHORT = {'scenario.name': '4-4', 'train_cfg.max_epochs': 2, 'incremental.train_cfg.max_epochs': 2,
         'optim_wrapper.optimizer.lr': .001}

pytestmark = pytest.mark.slow


def this_platform():
    # With the processor's name: two that both have AVX512 may round otherwise.
    return (f'{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {machine("cpu")["cpu"]}, '
            f'torch {torch.__version__}, opencv {cv2.__version__}, pillow {PIL.__version__}')


def run(folder, name):
    """What :func:`numbers` gives in a process whose MKL computes as processors with AVX2 do."""
    variables = os.environ | {'MKL_CBWR': 'AVX2', 'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'tools')])}
    subprocess.run([sys.executable, __file__, name, str(folder)], env=variables, check=True)
    return json.loads((folder / 'numbers.json').read_text())


def numbers(folder, options):
    """The results of a run, the loss of every iteration, and a checksum of all weights and memories."""
    losses = []
    data = {f'{split}_dataloader.dataset.dataset.{key}': value for split in ('train', 'test')
            for key, value in DATA.items()}
    cfg = read_config(str(ROOT / 'configs/ssul/shapes_4-1_m.py'), {
        **OPTIONS, **data, 'data_root': str(folder / 'data'), **options})
    cfg.work_dir = str(folder / 'work')
    original, threads = FiniteLossHook.after_train_iter, torch.get_num_threads()

    def after_train_iter(hook, runner, *args, outputs=None, **kwargs):
        losses.append(outputs['loss'].item())
        original(hook, runner, *args, outputs=outputs, **kwargs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FiniteLossHook, 'after_train_iter', after_train_iter)
        torch.set_num_threads(1)
        try:
            tasks = run_scenario(cfg)['tasks']
        finally:
            torch.set_num_threads(threads)
    content = b''
    for task in range(len(tasks)):
        weights = load_state(folder / f'work/task_{task}/weights.pth')['state_dict']
        # What it says, not how it is laid out.
        content += json.dumps(json.loads((folder / f'work/task_{task}/memory.json').read_text())).encode()
        content += b''.join(key.encode() + weights[key].contiguous().numpy().tobytes() for key in sorted(weights))
    return {'losses': losses, 'IoU': [task['IoU'] for task in tasks], 'digest': digest(content)}


def test_losses_and_metrics_of_a_short_run(tmp_path):
    pinned, now = json.loads(PINNED.read_text())['short'], run(tmp_path, 'short')
    assert now['losses'] == pytest.approx(pinned['losses'], rel=1e-6)
    for iou, expected in zip(now['IoU'], pinned['IoU'], strict=True):
        assert iou == pytest.approx(expected, abs=1e-6)


def test_every_bit_of_a_long_run(tmp_path):
    pinned = json.loads(PINNED.read_text())['long']
    if pinned['platform'] != this_platform():
        pytest.skip(f'pinned on {pinned["platform"]}, this is {this_platform()}')
    now = run(tmp_path, 'long')
    assert now['IoU'] == pinned['IoU'] and now['digest'] == pinned['digest']


def renew():
    """Write the numbers of this platform."""
    with tempfile.TemporaryDirectory() as short, tempfile.TemporaryDirectory() as long:
        short, long = run(Path(short), 'short'), run(Path(long), 'long')
    del short['digest'], long['losses']
    PINNED.write_text(json.dumps({'short': short, 'long': {'platform': this_platform(), **long}}, indent=1) + '\n')


if __name__ == '__main__':
    if not sys.argv[1:]:
        sys.exit(renew())
    options, folder = {'short': SHORT, 'long': LONG}[sys.argv[1]], Path(sys.argv[2])
    (folder / 'numbers.json').write_text(json.dumps(numbers(folder, options)))
