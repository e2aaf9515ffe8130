"""Nothing that comes from outside is unpickled, and no path in a manifest leaves the data."""
import functools
import http.server
import json
import os
import pickle
import runpy
import shutil
import threading

import numpy as np
import pytest
import torch
from mmengine.runner import checkpoint
from mmseg.registry import MODELS
from tiny import ROOT, tiny_config, tiny_options, voc_tree

from ssul_mmseg.engine import pretrained
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import evaluate_task, run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.work_dir.weights import load_state

CONFIG = 'configs/ssul/voc_15-1_m.py'
OPTIONS = {'scenario.name': '19-1', 'train_cfg.max_epochs': 1, 'memory.size': 4}


class Trap:
    """An object whose unpickling makes a folder, as it could do anything."""

    def __init__(self, folder):
        self.folder = folder / 'trap'

    def __reduce__(self):
        return os.makedirs, (str(self.folder), )

    @property
    def sprung(self):
        return self.folder.exists()


def plain_pickle(content, path):
    path.write_bytes(pickle.dumps(content))


def old_torch_file(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


FORMATS = [plain_pickle, old_torch_file, torch.save]


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', 20)


@pytest.fixture(scope='module')
def learned(tree, tmp_path_factory):
    """A work dir in which task 0 is learned."""
    work_dir = tmp_path_factory.mktemp('learned')
    run_scenario(tiny_config(tree, work_dir, CONFIG, **OPTIONS), range(1))
    return work_dir


@pytest.fixture
def base(learned, tmp_path):
    return shutil.copytree(learned, tmp_path / 'work')


@pytest.fixture
def backbone(tree):
    """Weights of a backbone."""
    torch.manual_seed(5)
    return MODELS.build(tiny_config(tree, '', CONFIG).model.backbone).state_dict()


def with_pretrained(tree, work_dir, path, **options):
    return tiny_config(tree, work_dir, CONFIG, **OPTIONS, **options, **{
        'model.backbone.init_cfg': dict(type='Pretrained', checkpoint=str(path))})


@pytest.mark.parametrize('save', FORMATS)
def test_pretrained_weights_that_need_unpickling_are_refused(tree, tmp_path, backbone, capfd, save):
    trap = Trap(tmp_path)
    save({'state_dict': backbone, 'meta': trap}, tmp_path / 'resnet.pth')
    with pytest.raises(InputError, match=r'resnet\.pth.*could run code.*--trust-pickled-weights') as error:
        run_scenario(with_pretrained(tree, tmp_path / 'work', tmp_path / 'resnet.pth'))
    assert not trap.sprung and '\n' not in str(error.value)
    assert 'Falling back' not in ''.join(capfd.readouterr())


def test_the_switch_loads_them(tree, tmp_path, backbone):
    trap = Trap(tmp_path)
    torch.save({'state_dict': backbone, 'meta': trap}, tmp_path / 'resnet.pth')
    options = {**tiny_options(tree), **OPTIONS, 'model.backbone.init_cfg.type': 'Pretrained',
               'model.backbone.init_cfg.checkpoint': tmp_path / 'resnet.pth'}
    arguments = [str(ROOT / CONFIG), '--work-dir', str(tmp_path / 'work'), '--tasks', '0', '--cfg-options',
                 *(f'{key}={value}'.replace(' ', '') for key, value in options.items())]
    main = runpy.run_path(str(ROOT / 'tools/train.py'))['main']
    with pytest.raises(InputError, match='--trust-pickled-weights'):
        main(arguments)
    assert not trap.sprung
    main(['--resume', '--trust-pickled-weights', *arguments])
    assert trap.sprung and (tmp_path / 'work/task_0/weights.pth').exists()


def test_pretrained_weights_without_code_need_no_switch(tree, tmp_path, backbone):
    torch.save({'state_dict': backbone, 'meta': {'accuracy': np.float64(70)}}, tmp_path / 'resnet.pth')
    still = {'optim_wrapper.optimizer.lr': 0., 'optim_wrapper.optimizer.weight_decay': 0.}
    run_scenario(with_pretrained(tree, tmp_path / 'work', tmp_path / 'resnet.pth', **still), range(1))
    weights = load_state(tmp_path / 'work/task_0/weights.pth')['state_dict']
    assert torch.equal(weights['backbone.conv1.weight'], backbone['conv1.weight'])


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder and the address at which its files can be fetched."""
    folder = tmp_path / 'served'
    folder.mkdir()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def test_pretrained_weights_are_fetched(tree, tmp_path, backbone, served):
    folder, address = served
    torch.save({'state_dict': backbone}, folder / 'resnet.pth')
    still = {'optim_wrapper.optimizer.lr': 0., 'optim_wrapper.optimizer.weight_decay': 0.}
    run_scenario(with_pretrained(tree, tmp_path / 'work', f'{address}/resnet.pth', **still), range(1))
    weights = load_state(tmp_path / 'work/task_0/weights.pth')['state_dict']
    assert torch.equal(weights['backbone.conv1.weight'], backbone['conv1.weight'])


def test_pretrained_weights_that_cannot_be_fetched_are_reported_with_their_address(tree, tmp_path, served, monkeypatch):
    _, address = served
    monkeypatch.setattr(pretrained, 'get_external_models', lambda: {'resnet101_v1c': f'{address}/none.pth'})
    monkeypatch.setattr(checkpoint, 'get_external_models', lambda: {'resnet101_v1c': f'{address}/none.pth'})
    with pytest.raises(InputError, match=rf'{address}/none\.pth cannot be loaded .*404.*checkpoint to its path'):
        run_scenario(with_pretrained(tree, tmp_path / 'work', 'open-mmlab://resnet101_v1c'), range(1))


@pytest.mark.parametrize('content', [b'', b'no weights', b'PK\3\4', pickle.dumps([1, 2])], ids=str)
def test_damaged_pretrained_weights_are_reported(tree, tmp_path, content):
    (tmp_path / 'resnet.pth').write_bytes(content)
    with pytest.raises(InputError, match=r'resnet\.pth'):
        run_scenario(with_pretrained(tree, tmp_path / 'work', tmp_path / 'resnet.pth'))


@pytest.mark.parametrize('save', FORMATS)
def test_weights_of_a_task_are_not_unpickled(tree, base, save):
    trap = Trap(base)
    state = load_state(base / 'task_0/weights.pth')
    save({**state, 'more': trap}, base / 'task_0/weights.pth')
    cfg = tiny_config(tree, base, CONFIG, **OPTIONS)
    cfg.trust_pickled_weights = True  # is about pretrained weights alone: our own never need it
    for use in (lambda: run_scenario(cfg, range(1, 2)), lambda: evaluate_task(Run(cfg), 0)):
        with pytest.raises(InputError, match=r'task_0/weights\.pth'):
            use()
    assert not trap.sprung


def test_checkpoints_are_not_unpickled(tree, base):
    trap = Trap(base)
    (base / 'task_1').mkdir()
    for save, name in zip(FORMATS, ('checkpoint.pth', 'checkpoint_previous.pth', 'weights.pth'), strict=True):
        save({'state_dict': {}, 'iter': trap}, base / 'task_1' / name)
    run_scenario(tiny_config(tree, base, CONFIG, **OPTIONS), resume=True)
    assert not trap.sprung and load_state(base / 'task_1/weights.pth')['meta']['task'] == 1


@pytest.mark.parametrize('key', ['load_from', 'resume'])
def test_what_mmengine_would_unpickle_is_refused(tree, base, tmp_path, key):
    trap = Trap(base)
    torch.save(trap, base / 'task_0/epoch_1.pth')
    (base / 'task_0/last_checkpoint').write_text(str(base / 'task_0/epoch_1.pth'))
    for work_dir, use in ((base, lambda cfg: evaluate_task(Run(cfg), 0)), (tmp_path / 'fresh', run_scenario)):
        cfg = tiny_config(tree, work_dir, CONFIG, **OPTIONS)
        cfg[key] = str(base / 'task_0/epoch_1.pth')
        with pytest.raises(InputError, match=f'{key} is set'):
            use(cfg)
    assert not trap.sprung


@pytest.mark.parametrize('path', [
    '../2007_000001.jpg', '../../secret.jpg', 'a/../../2007_000001.jpg', '..', '/etc/passwd', '{root}/2007_000001.jpg',
    'file:///etc/passwd', '..\\2007_000001.jpg', './../JPEGImages/2007_000001.jpg', '2007_000001.jpg\0', '~/secret.jpg',
    'link/secret.jpg', ''])
def test_paths_in_a_manifest_stay_in_the_data(tree, base, tmp_path, path):
    """A manifest names images of the training set by their path below the image folder, and nothing else."""
    (tmp_path / 'secret.jpg').write_bytes((tree / 'JPEGImages/2007_000001.jpg').read_bytes())
    link = tree / 'JPEGImages/link'
    link.symlink_to(tmp_path)
    manifest = json.loads((base / 'task_0/memory.json').read_text())
    manifest['exemplars'][0]['image'] = path.format(root=tree / 'JPEGImages')
    (base / 'task_0/memory.json').write_text(json.dumps(manifest))
    run = Run(tiny_config(tree, base, CONFIG, **OPTIONS))
    config = task_config(run.config, 1)
    try:
        with pytest.raises(InputError, match=r'task_0/memory\.json'):
            run.train_data(config, 1, base / 'task_0/memory.json')
    finally:
        link.unlink()
