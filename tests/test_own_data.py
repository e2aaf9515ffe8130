"""What docs/own_data.md says, done with a tiny network on tiny data."""
import re
import shutil

import numpy as np
import pytest
import torch
from mask_files import png_bytes
from mmseg.registry import DATASETS
from PIL import ExifTags, Image
from tiny import ROOT

from ssul_mmseg.datasets.shapes.dataset import make_shapes
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.options import read_config
from ssul_mmseg.prediction import Predictor
from ssul_mmseg.work_dir.weights import load_state

PAGE = (ROOT / 'docs/own_data.md').read_text()
OWN_CONFIG, RECIPE, CALL = re.findall(r'```python\n(.*?)```', PAGE, re.S)
NETWORK = {'model.backbone.base_channels': 4, 'model.decode_head.in_channels': 32, 'model.decode_head.channels': 8,
           'train_cfg.max_epochs': 1, 'incremental.train_cfg.max_epochs': 2, 'train_dataloader.batch_size': 4}


def config(path, work_dir, **options):
    cfg = read_config(str(ROOT / path), {**NETWORK, **options})
    cfg.work_dir = str(work_dir)
    return cfg


@pytest.fixture
def run_of_old_classes(tmp_path, monkeypatch):
    """A trained base task on the embedded data set, below the current folder."""
    monkeypatch.chdir(tmp_path)
    sizes = dict(num_train=24, num_test=6)
    options = {f'{part}_dataloader.dataset.dataset.{key}': value for key, value in sizes.items()
               for part in ('train', 'test')}
    make_shapes('data/shapes', **sizes)
    run_scenario(config('configs/ssul/shapes_4-1_m.py', 'work_dirs/demo', **options), range(1))
    return tmp_path / 'work_dirs/demo'


def test_a_class_is_added_to_a_trained_model(run_of_old_classes, tmp_path):
    exec(RECIPE, {})
    masks = [np.unique(Image.open(path)) for path in (tmp_path / 'data/rings/train/masks').iterdir()]
    assert masks and all(set(values) <= {0, 5, 255} and 5 in values for values in masks)
    new = tmp_path / 'work_dirs/add_class/shapes_4-1'
    shutil.copytree(run_of_old_classes / 'task_0', new / 'task_0')
    result = run_scenario(config('configs/add_class/shapes_4-1.py', new), range(1, 2))
    assert result['tasks'][1]['classes'] == ['ring'] and result['final']['new'] is not None
    assert result['tasks'][1]['forgetting'] is not None
    old, now = (load_state(new / f'task_{task}/weights.pth')['state_dict'] for task in (0, 1))
    assert all(torch.equal(value, now[key]) for key, value in old.items() if 'classifiers.task_0' in key)


def test_a_class_is_added_in_one_call(run_of_old_classes, tmp_path):
    exec(RECIPE, {})
    exec(CALL, {})
    old, new = (load_state(path / f'task_{task}/weights.pth')
                for path, task in ((run_of_old_classes, 0), (tmp_path / 'work_dirs/rings', 1)))
    assert new['meta']['classes'] == [*old['meta']['classes'], 'ring']
    same = [key for key in old['state_dict'] if 'classifiers.background' not in key and '.unknown.' not in key]
    assert len(same) > 50 and all(torch.equal(old['state_dict'][key], new['state_dict'][key]) for key in same)
    # The config that it leaves is one for the tools.
    cfg = read_config('work_dirs/rings/config.py')
    cfg.work_dir = 'work_dirs/rings'
    assert Predictor(cfg, 1).predict('data/rings/test/images/test_000000.jpg').classes[-1] == 'ring'


def test_folders_of_images_need_no_more_than_the_config_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs/mine').mkdir(parents=True)
    (tmp_path / 'configs/mine/tools_4-2.py').write_text(OWN_CONFIG.replace('../ssul', str(ROOT / 'configs/ssul')))
    for split in ('train', 'test'):
        for folder in ('images', 'masks'):
            (tmp_path / 'data/tools' / split / folder).mkdir(parents=True)
        for label in range(1, 9):
            Image.new('RGB', (8, 6)).save(tmp_path / f'data/tools/{split}/images/{label}.jpg')
            Image.new('L', (8, 6), label).save(tmp_path / f'data/tools/{split}/masks/{label}.png')
    options = {'crop_size': (256, 256)}
    cfg = read_config('configs/mine/tools_4-2.py', options)
    cfg.work_dir = 'work'
    task = task_config(cfg, 1)
    dataset = DATASETS.build(task.train_dataloader.dataset)
    assert dataset.num_new == 2 and dataset.metainfo['classes'][5:7] == ('pliers', 'wrench')
    assert len(dataset.metainfo['palette']) == 9
    assert task.model.data_preprocessor.size == (256, 256)


ODD_CONFIG = f'''
_base_ = '{ROOT}/configs/ssul/shapes_4-1.py'
dataset_name = 'odd'
data_root = 'data/odd'
scenario = dict(name='1-1', num_classes=2)
saliency = 'ground_truth'
data = dict(_delete_=True, type='BaseSegDataset', metainfo=dict(classes=('background', 'a', 'b')),
            data_prefix=dict(img_path='images', seg_map_path='masks'))
train_dataloader = dict(dataset=dict(dataset=data))
test_dataloader = dict(dataset=dict(dataset=data))
'''


def test_a_run_on_the_files_that_users_have(tmp_path, monkeypatch):
    """Images of one pixel, photographs that EXIF turns, suffixes of all kinds, masks of 4 bits: all are learned."""
    monkeypatch.chdir(tmp_path)
    for folder in ('images', 'masks'):
        (tmp_path / 'data/odd' / folder).mkdir(parents=True)
    (tmp_path / 'config.py').write_text(ODD_CONFIG)
    rng, sideways = np.random.default_rng(0), Image.Exif()
    sideways[ExifTags.Base.Orientation] = 6
    sizes = {'point.png': (1, 1), 'line.jpg': (1, 30), 'row.JPG': (30, 1), 'photo.jpeg': (40, 24), 'scan.tif': (30, 30)}
    for label in (1, 2):
        for name, (width, height) in sizes.items():
            pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
            options = {'exif': sideways} if 'photo' in name else {}
            Image.fromarray(pixels).save(tmp_path / f'data/odd/images/{label}_{name}', **options)
            row = bytes([label * 16 + label] * ((width + 1) // 2))
            (tmp_path / f'data/odd/masks/{label}_{name.split(".")[0]}.png').write_bytes(
                png_bytes([row] * height, width, 4))
    result = run_scenario(config(tmp_path / 'config.py', 'work'))
    assert [task['num_images'] for task in result['tasks']] == [5, 5]
    assert None not in result['final'].values()
