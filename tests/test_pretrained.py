"""Pretrained weights in real runs: taken over whole, or refused in a sentence."""
import copy
import logging

import pytest
import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from tiny import ROOT, tiny_config, tiny_options, voc_tree

from ssul_mmseg.engine import pretrained
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.options import read_config
from ssul_mmseg.work_dir.weights import load_state

# Nothing moves: what a run ends with is what it was started from.
STILL = {'scenario.name': '19-1', 'train_cfg.max_epochs': 1, 'optim_wrapper.optimizer.lr': 0.,
         'optim_wrapper.optimizer.weight_decay': 0.}


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', 20)


@pytest.fixture(scope='module')
def network(tree):
    """Weights of a whole network, by mmseg's names; all differ from what a fresh network has."""
    model = copy.deepcopy(tiny_config(tree, '').model)
    model.decode_head.classes_per_task = [19]
    state = MODELS.build(model).state_dict()
    generator = torch.Generator().manual_seed(1)
    return {key: torch.rand(value.shape, generator=generator) + .5 if value.is_floating_point() else value
            for key, value in state.items()}


@pytest.fixture(scope='module')
def backbone(network):
    return {key.removeprefix('backbone.'): value for key, value in network.items() if key.startswith('backbone.')}


@pytest.fixture
def messages(monkeypatch):
    found = []
    monkeypatch.setattr(pretrained, 'print_log', lambda text, level=logging.INFO, **_: found.append((level, text)))
    return found


@pytest.fixture
def start(tree, tmp_path):
    """Train task 0 from a file of some content; returns what it starts from, and the tensors of its backbone."""
    def run(content, work_dir='run', init_cfg=(), **options):
        torch.save(content, tmp_path / 'resnet.pth')
        cfg = tiny_config(tree, tmp_path / work_dir, **STILL, **options)
        cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'resnet.pth'), **dict(init_cfg))
        run_scenario(cfg, range(1))
        state = load_state(tmp_path / work_dir / 'task_0/weights.pth')['state_dict']
        return {key.removeprefix('backbone.'): value for key, value in state.items() if key.startswith('backbone.')}
    return run


def assert_taken(found, given):
    """All that learns is that of the file; the statistics of BatchNorm move in training."""
    learned = [key for key in found if key.endswith(('.weight', '.bias'))]
    assert len(learned) > 50
    assert not [key for key in learned if not torch.equal(found[key], given[key])]


@pytest.mark.parametrize('form', [
    lambda network, backbone: backbone,
    lambda network, backbone: {'state_dict': backbone, 'meta': {'epoch': 3}},
    lambda network, backbone: {'model': backbone},
    lambda network, backbone: {'state_dict': network},
    lambda network, backbone: {f'module.{key}': value for key, value in network.items()},
    lambda network, backbone: {'model': {f'module.{key}': value for key, value in backbone.items()}},
    lambda network, backbone: {key: value for key, value in backbone.items() if 'num_batches' not in key},
    lambda network, backbone: {**backbone, 'fc.weight': torch.ones(1000, 32), 'epoch': 3},
], ids=['backbone', 'state_dict', 'model', 'mmseg', 'DDP', 'DDP of a backbone', 'no counters', 'with a classifier'])
def test_known_forms_of_a_file_are_taken_over_whole(start, network, backbone, form):
    assert_taken(start(form(network, backbone)), backbone)


def test_half_precision_is_read_as_it_is(start, backbone):
    half = {key: value.half() if value.is_floating_point() else value for key, value in backbone.items()}
    assert_taken(start(half), {key: value.float() for key, value in half.items()})


def renamed(backbone):
    return {key.replace('layer', 'blocks.'): value for key, value in backbone.items()}


@pytest.mark.parametrize(('form', 'words'), [
    (lambda backbone: {}, 'hold no tensor; set model.backbone.init_cfg.checkpoint'),
    (lambda backbone: {'state_dict': {}}, 'hold no tensor'),
    (lambda backbone: [1, 2], 'hold no tensor'),
    (lambda backbone: {'epoch': 3}, 'hold no tensor'),
    (lambda backbone: {f'visual.{key}': value for key, value in backbone.items()},
     r'0 of the 105 tensors of ResNet; conv1\.weight, bn1\.weight, bn1\.bias and others.*the file has visual\.conv1'),
    (renamed, r'5 of the 105 tensors of ResNet; layer1\.0\.conv1\.weight, .* set model\.backbone\.init_cfg\.prefix if'),
    (lambda backbone: {key: value for key, value in backbone.items() if key != 'layer4.1.bn2.running_var'},
     r'104 of the 105 tensors of ResNet; layer4\.1\.bn2\.running_var and others'),
    (lambda backbone: {**backbone, 'conv1.weight': torch.zeros(64, 3, 3, 3)}, r'104 of the 105 .*; conv1\.weight and'),
    (lambda backbone: {**backbone, 'conv1.weight': backbone['conv1.weight'] * torch.nan},
     r'hold numbers that are NaN or infinite, in conv1\.weight'),
])
def test_what_does_not_fit_is_refused_with_the_first_missing_names(start, backbone, tmp_path, form, words):
    with pytest.raises(InputError, match=rf'the pretrained weights .*resnet\.pth .*{words}') as error:
        start(form(backbone))
    assert '\n' not in str(error.value) and not (tmp_path / 'run/task_0/weights.pth').exists()


def test_a_deliberate_partial_load_leaves_the_rest_as_it_is_drawn_and_says_so(start, backbone, messages):
    found = start(renamed(backbone), init_cfg=dict(partial=True))
    assert torch.equal(found['conv1.weight'], backbone['conv1.weight'])
    assert not torch.equal(found['layer1.0.conv1.weight'], backbone['layer1.0.conv1.weight'])
    (text, ) = (text for level, text in messages if level == logging.WARNING)
    assert 'give only 5 of the 105 tensors of ResNet: layer1.0.conv1.weight, ' in text
    with pytest.raises(InputError, match='0 of the 105 tensors'):
        start({'other': torch.ones(1)}, 'nothing', init_cfg=dict(partial=True))
    with pytest.raises(InputError, match=r"model\.backbone\.init_cfg\.partial is 'yes'; it is True or False"):
        start(backbone, 'yes', init_cfg=dict(partial='yes'))


def test_what_is_taken_over_is_counted_in_the_log(start, network, messages):
    start({'state_dict': network})
    ((level, text), ) = messages
    assert level == logging.INFO
    assert text.endswith('give 105 of the 105 tensors of ResNet, where their names begin with backbone.')


def test_a_prefix_of_ones_own(start, backbone):
    other = {f'visual.{key}': value for key, value in backbone.items()}
    assert_taken(start(other, init_cfg=dict(prefix='visual')), backbone)
    with pytest.raises(InputError, match='0 of the 105 tensors'):
        start(backbone, 'other', init_cfg=dict(prefix='visual'))


def test_weights_of_another_stem_are_refused_or_taken_in_part(start, backbone):
    """ResNet's names in ResNetV1c, whose stem has three convolutions: torchvision's file in the paper's backbone."""
    options = {'model.backbone.type': 'ResNetV1c'}
    with pytest.raises(InputError, match=r'100 of the 115 tensors of ResNetV1c; stem\.0\.weight, '):
        start(backbone, **options)
    found = start(backbone, 'partial', init_cfg=dict(partial=True), **options)
    assert torch.equal(found['layer4.1.conv2.weight'], backbone['layer4.1.conv2.weight'])


@pytest.mark.parametrize('prefix', ['neck', 'neck.'])
def test_any_part_of_a_network_and_a_list_of_initialisers(tmp_path, prefix):
    torch.manual_seed(0)
    model = BaseModule()
    model.neck = MODELS.build(dict(type='FPN', in_channels=[4, 8], out_channels=4, num_outs=2, init_cfg=[
        dict(type='Xavier', layer='Conv2d'),
        dict(type='Pretrained', checkpoint=str(tmp_path / 'neck.pth'), prefix=prefix)]))
    given = {f'neck.{key}': torch.randn(value.shape) for key, value in model.neck.state_dict().items()}
    torch.save(given, tmp_path / 'neck.pth')
    init_cfg = copy.deepcopy(model.neck.init_cfg)
    pretrained.init_weights(model, model.init_weights)
    assert all(torch.equal(value, given[key]) for key, value in model.state_dict().items())
    assert model.neck.init_cfg == init_cfg
    torch.save({'neck.lateral_convs.0.conv.weight': torch.ones(4, 4, 1, 1)}, tmp_path / 'neck.pth')
    model.neck._is_init = model._is_init = False
    with pytest.raises(InputError, match=r'do not fit model\.neck: they give 1 of the 8 tensors of FPN; lateral_convs'):
        pretrained.init_weights(model, model.init_weights)


def test_a_backbone_that_resizes_its_tables_still_does(tree, tmp_path):
    def cfg_of(window, checkpoint, work_dir):
        cfg = tiny_config(tree, tmp_path / work_dir, **STILL)
        cfg.model.backbone = dict(
            type='SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=window,
            init_cfg=dict(type='Pretrained', checkpoint=str(checkpoint)) if checkpoint else None)
        cfg.model.decode_head.update(in_channels=64, in_index=-1)
        return cfg
    torch.manual_seed(3)
    swin = MODELS.build(cfg_of(3, None, '').model.backbone)
    swin.init_weights()
    state = {key: value + .1 if value.is_floating_point() else value for key, value in swin.state_dict().items()}
    torch.save({'module.' + key: value for key, value in state.items()}, tmp_path / 'swin.pth')
    run_scenario(cfg_of(2, tmp_path / 'swin.pth', 'run'), range(1))
    found = load_state(tmp_path / 'run/task_0/weights.pth')['state_dict']
    table = 'stages.0.blocks.0.attn.w_msa.relative_position_bias_table'
    assert found[f'backbone.{table}'].shape == (9, 1) and state[table].shape == (25, 1)
    assert found[f'backbone.{table}'].mean() == pytest.approx(.1, abs=.05)
    assert torch.equal(found['backbone.norm3.weight'], state['norm3.weight'])
    # What it cannot resize, a table of other heads, is refused.
    torch.save({**state, table: torch.ones(25, 2)}, tmp_path / 'swin.pth')
    with pytest.raises(InputError, match=f'cannot be loaded .*size mismatch for {table}'):
        run_scenario(cfg_of(2, tmp_path / 'swin.pth', 'heads'), range(1))


def test_the_option_can_be_given_on_the_command_line(tree):
    config = str(ROOT / 'configs/ssul/voc_15-1.py')
    options = {key: value for key, value in tiny_options(tree).items() if key != 'model.backbone.init_cfg'}
    cfg = read_config(config, {**options, 'model.backbone.init_cfg.partial': True})
    assert cfg.model.backbone.init_cfg.partial is True
    with pytest.raises(InputError, match=r'did you mean model\.backbone\.init_cfg\.partial\?'):
        read_config(config, {**options, 'model.backbone.init_cfg.partail': True})
