"""The examples of other backbones: each learns two tasks and keeps its backbone from the second on."""
import importlib.util

import pytest
import torch
from tiny import ROOT, tiny_options, voc_tree

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import network_config
from ssul_mmseg.options import read_config
from ssul_mmseg.work_dir.weights import load_state

# Name of the example, and what makes it tiny.
EXAMPLES = {
    'vit': ('vit', dict(img_size=(32, 32), embed_dims=32, num_layers=2, num_heads=2), 32),
    'convnext': ('timm', dict(model_name='convnext_atto', pretrained=False), 320),
    # The other values are those that the example names for it.
    'dinov2': ('timm', dict(model_name='vit_small_patch14_dinov2', pretrained=False, out_indices=(-1, ), depth=1,
                            output_stride=None, dynamic_img_size=True, dynamic_img_pad=True), 384),
}
NO_TIMM = pytest.mark.skipif(importlib.util.find_spec('timm') is None, reason='timm is not installed')


def example(tmp_path, name, backbone, in_channels):
    """SSUL on VOC 19-1 with the model of an example, its data and schedule tiny."""
    bases = ['datasets/voc.py', f'models/deeplabv3_{name}.py', 'schedules/voc.py', 'default_runtime.py']
    file = tmp_path / 'voc_19-1.py'
    file.write_text(f'_base_ = {[str(ROOT / "configs/_base_" / base) for base in bases]}\n'
                    f"scenario = dict(name='19-1')\n"
                    f'model = dict(backbone={backbone}, decode_head=dict(in_channels={in_channels}, channels=8))\n')
    small = {key: value for key, value in tiny_options(tmp_path / 'voc').items() if not key.startswith('model.')}
    cfg = read_config(str(file), {**small, 'crop_size': (33, 40),
                                  'train_cfg.max_epochs': 1})
    cfg.work_dir = str(tmp_path / 'work')
    return cfg


@pytest.mark.parametrize('name', [
    'vit', pytest.param('convnext', marks=NO_TIMM), pytest.param('dinov2', marks=NO_TIMM)])
def test_two_tasks_with_the_backbone_frozen_bit_by_bit(tmp_path, name):
    voc_tree(tmp_path / 'voc')
    document = run_scenario(example(tmp_path, *EXAMPLES[name]))
    assert [len(task['classes']) for task in document['tasks']] == [19, 1]
    base, later = (load_state(tmp_path / f'work/task_{task}/weights.pth')['state_dict'] for task in (0, 1))
    changed = {key for key in base if not torch.equal(base[key], later[key])}
    assert changed == {f'decode_head.classifiers.{classifier}.0.{kind}' for classifier in ('background', 'unknown')
                       for kind in ('weight', 'bias')}
    assert sum(key.startswith('backbone.') for key in base) > 10


def test_timm_fetches_weights_for_the_base_task_alone(tmp_path):
    cfg = example(tmp_path, 'timm', {}, 768)
    assert [network_config(cfg, task).model.backbone.pretrained for task in (0, 1)] == [True, False]
