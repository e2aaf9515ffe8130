"""Mixed precision on the CPU."""
import subprocess
import sys

import pytest
import torch
from mmseg.registry import OPTIM_WRAPPERS
from tiny import ROOT, samples_of, started, tiny_config, tiny_model, voc_tree

from ssul_mmseg.engine.optim import mixed_precision_wrapper
from ssul_mmseg.engine.scenario_loop import run_scenario


def test_a_task_that_is_solved_does_not_import_a_compiler():
    """PyTorch's own optimizers do, at the first parameter group."""
    code = ('import sys; from mmseg.registry import OPTIM_WRAPPERS; import ssul_mmseg.engine.optim as optim; '
            'wrapper = OPTIM_WRAPPERS.build(dict(type="BFloat16OptimWrapper", optimizer=optim.NoOptimizer([]))); '
            'wrapper.optimizer.register_step_pre_hook(print); print("torch._dynamo" in sys.modules)')
    assert subprocess.check_output([sys.executable, '-c', code], cwd=ROOT, text=True).splitlines()[-1] == 'False'


def step(wrapper_type):
    model = started(tiny_model([3, 2]), tiny_model([3]))
    wrapper = OPTIM_WRAPPERS.build(dict(type=wrapper_type, optimizer=torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=.1)))
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 3, 32, 32, generator=generator)
    labels = torch.randint(4, 6, (2, 32, 32), dtype=torch.uint8, generator=generator)
    dtypes = []
    model.decode_head.bottleneck.register_forward_hook(lambda module, args, output: dtypes.append(output.dtype))
    with wrapper.optim_context(model):
        losses = model(inputs, samples_of(labels), mode='loss')
    loss = sum(losses.values())
    wrapper.update_params(loss)
    return loss.item(), dtypes, model.decode_head.classifiers['task_1'][-1].weight


def test_the_trunk_runs_in_bfloat16_and_the_loss_is_that_of_float32():
    plain, dtypes, weight = step('OptimWrapper')
    mixed, mixed_dtypes, mixed_weight = step('BFloat16OptimWrapper')
    assert dtypes == [torch.float32] and mixed_dtypes == [torch.bfloat16]
    assert mixed == pytest.approx(plain, rel=2e-2) and mixed != plain
    assert mixed_weight.dtype == torch.float32
    torch.testing.assert_close(mixed_weight, weight, rtol=5e-2, atol=5e-2)


@pytest.mark.skipif(torch.cuda.is_available(), reason='about a machine without a GPU')
def test_without_a_gpu_it_is_bfloat16():
    assert mixed_precision_wrapper() == 'BFloat16OptimWrapper'


@pytest.mark.parametrize('cache', [None, dict(views=1)], ids=str)
def test_a_scenario_runs_in_mixed_precision(tmp_path, cache):
    cfg = tiny_config(voc_tree(tmp_path / 'voc'), tmp_path / 'run', **{'scenario.name': '19-1', 'feature_cache': cache})
    cfg.optim_wrapper.type = mixed_precision_wrapper()
    cfg.train_cfg.max_epochs = 1
    assert run_scenario(cfg)['final']['all'] >= 0
