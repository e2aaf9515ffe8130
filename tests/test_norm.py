"""Batch normalisation over two processes against one with the whole batch."""
import pytest
import torch
import torch.multiprocessing
from torch import nn

from ssul_mmseg.models.norm import GlooSyncBN


def whole():
    torch.manual_seed(0)
    return torch.randn(6, 3, 4, 5) * 2 + 1, torch.randn(6, 3, 4, 5)


def one_process(rank, folder, sizes, dtype):
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    x, weight = (tensor.split(sizes)[rank] for tensor in whole())
    x = x.to(dtype).requires_grad_()
    norm = GlooSyncBN(3)
    y = norm(x)
    (y * weight).sum().backward()
    torch.save((y.detach(), x.grad, norm.weight.grad, norm.state_dict()), f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('sizes', [(3, 3), (4, 2), (6, 0)], ids=str)
def test_two_processes_equal_the_whole_batch(tmp_path, sizes):
    torch.multiprocessing.spawn(one_process, (str(tmp_path), sizes, torch.float32), nprocs=2)
    parts = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    x, weight = whole()
    x.requires_grad_()
    norm = nn.BatchNorm2d(3)
    y = norm(x)
    (y * weight).sum().backward()
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), y.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), x.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts[0][2] + parts[1][2], norm.weight.grad, rtol=1e-5, atol=1e-5)
    for key, value in norm.state_dict().items():
        torch.testing.assert_close(parts[0][3][key], value)
        assert torch.equal(parts[0][3][key], parts[1][3][key])


def test_statistics_of_low_precision_are_computed_in_full(tmp_path):
    torch.multiprocessing.spawn(one_process, (str(tmp_path), (3, 3), torch.bfloat16), nprocs=2)
    parts = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    norm = nn.BatchNorm2d(3)
    expected = norm(whole()[0].bfloat16().float())
    found = torch.cat([part[0] for part in parts])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected.detach().bfloat16())
    torch.testing.assert_close(parts[0][3]['running_var'], norm.running_var)


def test_alone_or_in_evaluation_it_is_plain_batch_norm():
    x, _ = whole()
    norm, plain = GlooSyncBN(3), nn.BatchNorm2d(3)
    assert torch.equal(norm(x), plain(x)) and torch.equal(norm.eval()(x), plain.eval()(x))
