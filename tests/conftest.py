import gc
import json
import os
import signal

# Many tests compare bits, which a GPU does not give twice; to run them on one all the same, set the variable.
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '')

import mmengine
import pytest
import torch
from hypothesis import HealthCheck, settings
from mask_files import HELD, write_mask

FORMATTED = mmengine.Config.pretty_text
# What a case computes is tested, not how long a busy machine takes for it.
settings.register_profile('patient', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('patient')


@pytest.fixture(scope='session', autouse=True)
def quick_runs():
    """Leave out what takes most of a tiny run: threads that wait, mmengine's formatting and garbage collections."""
    torch.set_num_threads(1)
    # In the background a shell lets Ctrl-C be ignored, by what the tests start too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OMP_NUM_THREADS', '1')
        patch.setattr(mmengine.Config, 'pretty_text', property(lambda self: str(self.to_dict())))
        patch.setattr(gc, 'collect', lambda generation=2: 0)
        yield


@pytest.fixture
def formatted_configs(monkeypatch):
    """Let mmengine write configs as Python code, as it does in a user's run."""
    monkeypatch.setattr(mmengine.Config, 'pretty_text', FORMATTED)


@pytest.fixture
def save(tmp_path):
    def write(content, name='results.json'):
        (tmp_path / name).write_text(json.dumps(content))
        return str(tmp_path / name)
    return write


@pytest.fixture
def masks(tmp_path):
    (tmp_path / 'masks').mkdir()
    paths = [str(tmp_path / 'masks' / f'{i}.png') for i in range(len(HELD))]
    for path, values in zip(paths, HELD, strict=True):
        write_mask(path, values)
    return paths


@pytest.fixture
def many_masks(tmp_path):
    paths = [str(tmp_path / f'{i}.png') for i in range(250)]
    for i, path in enumerate(paths):
        write_mask(path, [0, i])
    return paths
