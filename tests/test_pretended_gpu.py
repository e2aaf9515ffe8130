"""Whole tiny runs as on a GPU: no operation mixes its tensors with the CPU's."""
import numpy as np
import pytest
import torch
from pretended_gpu import GPU, PretendedGpu
from test_adopt import VOC, checkpoint
from test_adopted import PREPROCESSOR
from test_heads_of_mmseg import network
from tiny import METHODS, has_memory, network_run, tiny_config, voc_tree

from ssul_mmseg import load_model
from ssul_mmseg.engine.adopt import adopt
from ssul_mmseg.engine.export import export
from ssul_mmseg.engine.label_samples import task_labels
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import evaluate_task, run_scenario

SOLVED = {'incremental.solver.type': 'Newton', 'model.draws': 300}


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr('mmengine.device.utils.DEVICE', 'cuda')
    with PretendedGpu() as mode:
        yield mode


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc')


def test_what_mixes_devices_is_refused(gpu):
    here, there = torch.arange(3.), torch.arange(3.).to('cuda')
    assert (here.device.type, there.device, there[1:].device, (there + 1).device) == ('cpu', GPU, GPU, GPU)
    assert there.is_cuda and here.is_cpu and not there.cpu().is_cuda
    assert torch.zeros(2, device=there.device).is_cuda and there.new_zeros(2).is_cuda and there.to(here).is_cpu
    for mixed in (lambda: here + there, lambda: torch.cat([here, there]), lambda: here @ there,
                  lambda: here[there.long()], lambda: there.index_add(0, torch.tensor([0]), there[:1]),
                  lambda: torch.equal(here, there)):
        with pytest.raises(RuntimeError, match='two devices'):
            mixed()
    with pytest.raises(TypeError, match='numpy'):
        there.numpy()
    assert (there * torch.tensor(2.)).tolist() == [0, 2, 4] and there[torch.tensor([2])].tolist() == [2]
    here.copy_(there)


def test_gradients_are_where_their_parameters_are(gpu):
    layer = torch.nn.Linear(3, 2).to('cuda')
    layer(torch.ones(4, 3, device='cuda')).sum().backward()
    assert layer.weight.device == layer.weight.grad.device == GPU
    torch.optim.SGD(layer.parameters(), .1, momentum=.9).step()
    with pytest.raises(RuntimeError, match='two devices'):
        layer(torch.ones(4, 3))


def options_of(others):
    return {'scenario.name': '15-1', 'train_cfg.max_epochs': 1, **others}


@pytest.mark.parametrize('method', METHODS)
def test_every_method_runs_on_a_gpu(gpu, tree, tmp_path, method):
    memory = {'memory.size': 8} if has_memory(method) else {}
    tasks = None if 'joint' in method else range(3)
    run_scenario(tiny_config(tree, tmp_path, f'configs/{method}.py', **options_of(memory)), tasks)
    assert gpu.operations > 1000


@pytest.mark.parametrize('method, options', [
    ('ssul/voc_15-1_m', SOLVED), ('ipseg/voc_15-1', SOLVED), ('plop/voc_15-1', {'model.freeze_backbone': True}),
    ('ssul/voc_15-1_m', {'feature_cache': dict(views=2)}), ('ssul/voc_15-1', {'model.freeze': False}),
    ('ssul/voc_15-1', {'model.decode_head.classifier': 'conv', 'model.merge_unknown': 'scores'}),
    ('ssul/voc_15-1', {'model.decode_head.loss_decode.type': 'SoftmaxCELoss', 'model.decode_head.dropout_ratio': .1}),
    ('analytic/voc_15-1', {'memory': dict(size=8)}),
], ids=str)
def test_other_paths_run_on_a_gpu(gpu, tree, tmp_path, method, options):
    run_scenario(tiny_config(tree, tmp_path, f'configs/{method}.py', **options_of(options)), range(3))


def test_what_is_done_with_a_learned_network_runs_on_a_gpu(gpu, tree, tmp_path):
    cfg = tiny_config(tree, tmp_path / 'run', 'configs/ssul/voc_15-1_m.py', **options_of({'memory.size': 8}))
    run_scenario(cfg, range(2))
    run = Run(cfg)
    assert evaluate_task(run, 1, tta=True)['mIoU_all'] >= 0
    assert len(task_labels(run, 1, 4).samples) == 4
    found = load_model(tmp_path / 'run').predict(sorted((tree / 'JPEGImages').iterdir())[0])
    assert found.scores.dtype == np.float32 and found.labels.shape == found.scores.shape[1:]
    for form in ('mmseg', 'torchscript'):
        export(tmp_path / 'run', 1, form, 'merge', tmp_path / f'network.{form}')


def test_a_plain_network_is_adopted_on_a_gpu(gpu, tree, tmp_path):
    cfg = network_run(tmp_path, dict(network('FCNHead'), data_preprocessor=PREPROCESSOR))
    adopt(cfg, checkpoint(tmp_path / 'plain', VOC[:20])[1], sorted(map(str, (tree / 'JPEGImages').iterdir()))[:4])
    run_scenario(cfg, range(1, 2), resume=True)
