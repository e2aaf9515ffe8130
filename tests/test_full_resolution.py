import torch
import torch.nn.functional as F

from ssul_mmseg.models.losses import IGNORED
from ssul_mmseg.solver.cells import cells_of, soft_targets
from ssul_mmseg.solver.full_resolution import Maps, full_loss, solve_full
from ssul_mmseg.solver.newton import derivatives, solve


def maps(seed=0):
    """Two sizes of maps whose labels depend on the features."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for batch, size, pixels in ((3, (5, 6), (40, 48)), (2, (4, 4), (32, 32))):
        features = torch.randn(batch, 4, *size, generator=generator)
        smooth = F.interpolate(features[:, :2], size=pixels, mode='bilinear')
        target = (smooth + 0.5 * torch.randn(batch, 2, *pixels, generator=generator)).argmax(1)
        target[:, :3] = IGNORED
        result.append(Maps(features, target))
    return result


def definition(batches, filters, pull=0.):
    """Cross-entropy of interpolated logits in float64, a pixel worth h w / (H W)."""
    total = pull / 2 * (filters[:, :-1] - 1).square().sum()  # all weights start at 1
    for batch in batches:
        logits = torch.einsum('kd,bdhw->bkhw', filters[:, :-1], batch.features.double())
        scores = F.interpolate(logits + filters[:, -1].view(1, -1, 1, 1), size=batch.target.shape[1:], mode='bilinear')
        one_hot = F.one_hot(batch.target.clamp(min=0), 2).movedim(-1, 1).double()
        terms = F.binary_cross_entropy_with_logits(scores, one_hot, reduction='none').sum(1)
        cell = batch.features[0, 0].numel() / batch.target[0].numel()
        total = total + (terms * (batch.target != IGNORED)).sum() * cell
    return total


def test_loss_and_gradient_equal_the_definition():
    filters = torch.randn(2, 5, generator=torch.Generator().manual_seed(1)).double()
    loss, gradient = full_loss(maps(), filters)
    expected = definition(maps(), filters.requires_grad_())
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, filters)[0], rtol=1e-4, atol=1e-3)


def test_the_solution_is_the_minimum_of_the_paper_s_loss_and_below_that_over_cells():
    cells = [cells_of(batch.features, *soft_targets(batch.target, 2, batch.features.shape[2:])) for batch in maps()]
    pull = 0.1 * sum(block.weights.sum().item() for block in cells)
    solution = solve(cells, torch.ones(2, 4), torch.zeros(2), ('background', 'class 1'), decay=0.1)
    at_least = torch.cat([solution.weight, solution.bias.unsqueeze(1)], 1)
    _, _, curvature = derivatives(cells, at_least, torch.arange(2))
    curvature.diagonal(dim1=1, dim2=2)[:, :-1] += pull
    reached = definition(maps(), solve_full(maps(), at_least, curvature, torch.ones(2, 5).double(), pull), pull)

    filters = torch.zeros(2, 5).double().requires_grad_()
    optimizer = torch.optim.LBFGS([filters], max_iter=500, tolerance_grad=1e-9, tolerance_change=0,
                                  line_search_fn='strong_wolfe')

    def closure():
        optimizer.zero_grad()
        loss = definition(maps(), filters, pull)
        loss.backward()
        return loss

    optimizer.step(closure)
    least = definition(maps(), filters, pull).item()
    assert abs(reached.item() - least) / least < 1e-6
    # Both the loss over cells and the paper's loss at its minimum are bounds from above.
    at_cells = definition(maps(), at_least, pull).item()
    assert least < at_cells < solution.loss.sum().item()
