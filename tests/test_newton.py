import itertools
import math
import threading

import pytest
import torch
import torch.nn.functional as F

from ssul_mmseg.errors import InputError
from ssul_mmseg.solver.cells import Cells
from ssul_mmseg.solver.newton import derivatives, solve

NAMES = ('background', 'class 5', 'unknown')


def problem(count=600, width=5, channels=3, seed=0, spread=1.0):
    """Cells whose channels depend on the features, with soft targets and uneven weights."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, width, generator=generator) * spread
    filters = torch.randn(channels, width, generator=generator)
    noise = torch.randn(count, channels, generator=generator)
    targets = ((features @ filters.T + noise) * 2 - 1).sigmoid()
    return Cells(features, targets, torch.rand(count, generator=generator) + 0.1)


def objective(cells, filters, decay, start=0.):
    """The definition, in float64; ``start`` is where the filters start, 0 or (K, d)."""
    logits = cells.features.double() @ filters[:, :-1].T + filters[:, -1]
    terms = F.binary_cross_entropy_with_logits(logits, cells.targets.double(), reduction='none')
    weights = cells.weights.double()
    penalty = decay * weights.sum() / 2 * (filters[:, :-1] - start).square().sum(1)
    return (weights.unsqueeze(1) * terms).sum(0) + penalty


def minimum_by_lbfgs(cells, decay, start=0.):
    """The same minimum by torch's own optimiser, in float64."""
    filters = torch.zeros(cells.targets.shape[1], cells.features.shape[1] + 1, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([filters], max_iter=500, tolerance_grad=1e-10, tolerance_change=0,
                                  line_search_fn='strong_wolfe')

    def closure():
        optimizer.zero_grad()
        loss = objective(cells, filters, decay, start).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return filters.detach()


def solved(blocks, channels=3, width=5, **settings):
    settings = {'names': NAMES[:channels], **settings}
    return solve(blocks, torch.zeros(channels, width), torch.zeros(channels), **settings)


def filters_of(solution):
    return torch.cat([solution.weight, solution.bias.unsqueeze(1)], 1)


def test_derivatives_by_hand():
    # One cell x = (2, 1), w = 3, t = 1/4, at filter (0, 0): p = 1/2.
    cells = Cells(torch.tensor([[2.]]), torch.tensor([[0.25]]), torch.tensor([3.]))
    loss, gradient, hessian = derivatives([cells], torch.zeros(1, 2).double(), torch.tensor([0]))
    assert loss.item() == pytest.approx(3 * math.log(2), rel=1e-6)
    assert gradient[0].tolist() == pytest.approx([1.5, 0.75])
    assert hessian[0].flatten().tolist() == pytest.approx([3, 1.5, 1.5, 0.75], rel=1e-5)
    # At (1, 1) the logit is 3, the target 0.
    zero = Cells(cells.features, torch.zeros(1, 1), cells.weights)
    _, gradient, _ = derivatives([zero], torch.ones(1, 2).double(), torch.tensor([0]))
    p = 1 / (1 + math.exp(-3))
    assert gradient[0].tolist() == pytest.approx([6 * p, 3 * p])


def test_derivatives_equal_autograd():
    cells = problem()
    filters = torch.randn(3, 6, generator=torch.Generator().manual_seed(3)).double()
    loss, gradient, hessian = derivatives([cells], filters, torch.arange(3))
    torch.testing.assert_close(loss, objective(cells, filters, 0), rtol=1e-6, atol=0)
    expected, = torch.autograd.grad(objective(cells, filters.requires_grad_(), 0).sum(), filters)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-4)
    for channel in range(3):
        one = Cells(cells.features, cells.targets[:, channel:channel + 1], cells.weights)
        expected = torch.autograd.functional.hessian(lambda f, one=one: objective(one, f.view(1, -1), 0).sum(),
                                                     filters[channel].detach())
        torch.testing.assert_close(hessian[channel], expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize('decay', [1e-4, 0.01, 1.0])
def test_the_solution_is_the_minimum(decay):
    cells = problem()
    solution = solved([cells], decay=decay)
    assert solution.converged and solution.gradient_norm.max() <= 1e-6
    least = objective(cells, minimum_by_lbfgs(cells, decay), decay)
    reached = objective(cells, filters_of(solution), decay)
    assert ((reached - least) / least).abs().max() < 1e-6
    torch.testing.assert_close(solution.loss, least, rtol=1e-6, atol=0)


def test_the_penalty_holds_weights_near_their_start_and_leaves_the_bias_free():
    # One feature that is always 0: the loss says nothing of its weight, which stays; the bias fits the share 1/4.
    cells = Cells(torch.zeros(2, 1), torch.tensor([[0.25], [0.25]]), torch.tensor([1., 3.]))
    stays = solve([cells], torch.tensor([[5.]]), torch.tensor([7.]), ['background'], decay=1.0)
    assert stays.weight.item() == pytest.approx(5) and stays.bias.item() == pytest.approx(math.log(1 / 3), rel=1e-5)
    # At its start a filter pays nothing; the heavier the penalty, the nearer it stays.
    cells, start = problem(), torch.randn(3, 5, generator=torch.Generator().manual_seed(5))
    distances = []
    for decay in (1e-3, 0.1, 100.):
        found = solve([cells], start, torch.zeros(3), NAMES, decay=decay)
        least = objective(cells, minimum_by_lbfgs(cells, decay, start.double()), decay, start.double())
        torch.testing.assert_close(found.loss, least, rtol=1e-6, atol=0)
        distances.append((found.weight - start).norm().item())
    assert distances[0] > distances[1] > 10 * distances[2]


def test_a_long_sgd_run_ends_at_the_same_filters():
    cells = problem()
    filters = torch.zeros(3, 6, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.SGD([filters], 0.01, momentum=0.9)
    for _ in range(3000):
        optimizer.zero_grad()
        objective(cells, filters, 0.1).sum().backward()
        optimizer.step()
    torch.testing.assert_close(filters_of(solved([cells], decay=0.1)), filters.detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('start', [0.0, 3.0, 40.0])
def test_far_starts_lead_to_the_minimum(start):
    cells = problem(spread=5.0)
    generator = torch.Generator().manual_seed(1)
    weight = start * torch.randn(3, 5, generator=generator)
    far = solve([cells], weight, start * torch.ones(3), NAMES, decay=1e-3)
    assert far.converged
    least = objective(cells, minimum_by_lbfgs(cells, 1e-3, weight.double()), 1e-3, weight.double())
    torch.testing.assert_close(far.loss, least, rtol=1e-6, atol=0)


def test_a_start_at_the_minimum_takes_no_step():
    cells = problem()
    least = solved([cells], decay=1e-12)
    again = solve([cells], least.weight, least.bias, NAMES)
    assert again.iterations.tolist() == [0, 0, 0]


def test_rare_classes_and_separable_ones_converge():
    cells = problem(count=4000)
    targets = torch.zeros(4000, 3)
    targets[0, 0] = 1  # one cell of 4,000
    targets[:, 1] = (cells.features[:, 0] > 0).float()  # without penalty its minimum would lie at infinity
    targets[:, 2] = (cells.features[:, 0] > 2.5).float()
    solution = solved([Cells(cells.features * 20, targets, cells.weights)])
    assert solution.converged and solution.iterations.max() < 30


def test_blocks_do_not_matter():
    cells = problem(count=1000)
    whole = solved([cells])
    parts = [Cells(*part) for part in zip(*(x.split(77) for x in (cells.features, cells.targets, cells.weights)),
                                          strict=True)]
    assert len(parts) == 13
    split = solved([*parts, Cells(torch.zeros(0, 5), torch.zeros(0, 3), torch.zeros(0))])
    torch.testing.assert_close(filters_of(split), filters_of(whole), rtol=1e-5, atol=1e-6)


def test_two_processes_solve_what_one_solves(monkeypatch):
    """Each of two processes holds half of the cells; what all-reduce adds is the other half's sum."""
    cells = problem(count=1000)
    halves = [Cells(*(x[part] for x in (cells.features, cells.targets, cells.weights)))
              for part in (slice(0, 300), slice(300, 1000))]
    whole = solved([cells])
    # Run both in step: a process waits in all-reduce until the other has come there.
    barrier, sums, lock = threading.Barrier(2), [], threading.Lock()

    def all_reduce(tensor):
        with lock:
            sums.append(tensor.clone())
        barrier.wait()
        total = sums[0] + sums[1]
        barrier.wait()
        tensor.copy_(total)
        sums.clear()
        barrier.wait()

    monkeypatch.setattr('ssul_mmseg.solver.cells.all_reduce', all_reduce)
    results = [None, None]

    def work(rank):
        results[rank] = solved([halves[rank]])

    threads = [threading.Thread(target=work, args=(rank, )) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert torch.equal(filters_of(results[0]), filters_of(results[1]))
    torch.testing.assert_close(filters_of(results[0]), filters_of(whole), rtol=1e-5, atol=1e-6)


def test_channels_do_not_disturb_each_other():
    cells = problem()
    together = solved([cells])
    for channel in range(3):
        alone = solved([Cells(cells.features, cells.targets[:, channel:channel + 1], cells.weights)], channels=1)
        torch.testing.assert_close(filters_of(alone)[0], filters_of(together)[channel], rtol=1e-5, atol=1e-6)


def test_half_precision_features_are_summed_in_float32_and_more():
    cells = problem(count=5000)
    half = Cells(cells.features.half(), cells.targets, cells.weights)
    same = Cells(half.features.float(), cells.targets, cells.weights)
    assert torch.equal(filters_of(solved([half])), filters_of(solved([same])))


def test_a_constant_feature_gets_no_weight():
    cells = problem()
    features = torch.cat([cells.features, torch.full((600, 1), 3.0)], 1)
    solution = solved([Cells(features, cells.targets, cells.weights)], width=6)
    assert solution.converged
    # The bias does its work free of charge.
    torch.testing.assert_close(solution.weight[:, 5], torch.zeros(3).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(solution.loss, solved([cells]).loss, rtol=1e-6, atol=0)


def test_the_gradient_norm_is_reported_after_every_step():
    lines = []
    solution = solved([problem()], report=lambda step, loss, norm: lines.append((step, loss.sum().item(), norm.max())))
    assert [step for step, _, _ in lines] == list(range(len(lines)))
    assert len(lines) == solution.iterations.max() + 1
    assert all(after <= before * (1 + 1e-6) for (_, before, _), (_, after, _) in itertools.pairwise(lines))
    assert lines[-1][2] <= 1e-6


def test_too_few_iterations_are_admitted():
    solution = solved([problem()], max_iterations=1)
    assert not solution.converged and solution.iterations.tolist() == [1, 1, 1]


def changed(cells, **parts):
    return Cells(**{**vars(cells), **parts})


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_a_feature_that_is_not_finite_is_reported(value):
    features = problem().features.clone()
    features[7, 2] = value
    with pytest.raises(InputError, match='NaN or infinite'):
        solved([changed(problem(), features=features)])


def test_a_class_without_pixel_is_reported_by_name():
    targets = problem().targets.clone()
    targets[:, 1] = 0
    with pytest.raises(InputError, match='no training pixel shows class 5'):
        solved([changed(problem(), targets=targets)])
    with pytest.raises(InputError, match='no training pixel shows background'):
        solved([])


def test_a_channel_without_negative_is_reported_by_name():
    targets = problem().targets.clone()
    targets[:, 2] = 1
    with pytest.raises(InputError, match='all training pixels show unknown'):
        solved([changed(problem(), targets=targets)])


@pytest.mark.parametrize('decay', [0, -1.0, math.nan])
def test_a_decay_that_is_not_positive_is_reported(decay):
    with pytest.raises(InputError, match='positive number'):
        solved([problem()], decay=decay)
