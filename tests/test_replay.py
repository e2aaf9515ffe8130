import math

import pytest
import torch

from ssul_mmseg.errors import InputError
from ssul_mmseg.solver.cells import Cells
from ssul_mmseg.solver.newton import solve
from ssul_mmseg.solver.replay import class_moments, draw_cells, weighed_alike


def gaussian_task(means, count, seed, channels):
    """Cells of classes around means; the target of a cell is the channel of its class, None for no channel."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.cat([mean + torch.randn(count, len(mean), generator=generator) for mean in means])
    targets = torch.zeros(len(features), max(channel for channel in channels if channel is not None) + 1)
    for place, channel in enumerate(channels):
        if channel is not None:
            targets[place * count:(place + 1) * count, channel] = 1
    return Cells(features, targets, torch.ones(len(features)))


def test_moments_by_hand():
    cells = Cells(torch.tensor([[2.], [4.]]), torch.tensor([[1., 0.], [0.5, 0.5]]), torch.tensor([1., 2.]))
    moments = class_moments([cells], 2, 1)
    assert moments.tolist() == [[[20, 6], [6, 2]], [[16, 4], [4, 1]]]  # 4 + 16, 2 + 4, 1 + 1; 16, 4, 1


def test_moments_of_two_processes_or_tasks_add_up():
    cells = gaussian_task(torch.eye(3) * 4, 50, 0, (0, 1, None))
    parts = [Cells(cells.features[p], cells.targets[p], cells.weights[p]) for p in (slice(60), slice(60, None))]
    one, two = (class_moments([part], 2, 3) for part in parts)
    torch.testing.assert_close(one + two, class_moments([cells], 2, 3), rtol=1e-6, atol=1e-4)


def test_draws_have_the_mean_covariance_and_count_of_their_class():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 4, generator=generator) @ torch.randn(4, 4, generator=generator) + 3
    weights = torch.rand(500, generator=generator)
    moments = class_moments([Cells(features, torch.ones(500, 1), weights)], 1, 4)
    drawn = draw_cells({7: moments[0]}, [7, 9], 64, seed=3)
    again = class_moments([Cells(drawn.features, torch.ones(64, 1), drawn.weights)], 1, 4)
    torch.testing.assert_close(again, moments, rtol=1e-5, atol=1e-2)
    assert bool((drawn.targets == torch.tensor([1., 0.])).all())


def test_draws_follow_from_seed_and_label():
    moments = class_moments([gaussian_task(torch.eye(3), 50, 0, (0, 1, 2))], 3, 3)
    both = draw_cells({1: moments[1], 2: moments[2]}, [5], 40, seed=1)
    alone = draw_cells({2: moments[2]}, [5], 20, seed=1)
    assert torch.equal(both.features[20:], alone.features)
    assert not torch.equal(draw_cells({2: moments[2]}, [5], 20, seed=2).features, alone.features)
    same = draw_cells({1: moments[2], 2: moments[2]}, [5], 40, seed=1).features
    assert not torch.equal(same[:20], same[20:])


def test_a_thousand_old_classes_take_no_more_draws_than_ten():
    moment = class_moments([gaussian_task(torch.eye(3), 50, 0, (0, 0, 0))], 1, 3)[0]
    few, many = (draw_cells(dict.fromkeys(range(number), moment), [0], 4000, seed=0) for number in (10, 1000))
    assert len(few.weights) == len(many.weights) == 4000
    assert many.weights.sum().item() == pytest.approx(1000 * 150)
    torch.testing.assert_close(many.features.mean(0), (moment[:-1, -1] / 150).float(), rtol=0, atol=0.06)


def test_draws_are_shared_out_like_the_roots_of_counts():
    moments = class_moments([gaussian_task(torch.eye(3), 50, 0, (0, 0, 0))], 1, 3)[0]
    drawn = draw_cells({1: moments, 2: moments * 9, 3: moments * 0}, [2], 400, seed=0)
    assert drawn.targets.sum() == 300 and len(drawn.weights) == 400
    assert drawn.weights[:100].sum().item() == pytest.approx(150)
    assert drawn.weights[100:].sum().item() == pytest.approx(1350)


def test_a_constant_feature_and_an_absent_class_do_no_harm():
    cells = Cells(torch.tensor([[1., 2.], [1., 4.]]), torch.tensor([[1., 0.], [1., 0.]]), torch.ones(2))
    moments = class_moments([cells], 2, 2)
    drawn = draw_cells(dict(enumerate(moments)), [1], 8, seed=0)
    assert len(drawn.weights) == 8
    torch.testing.assert_close(drawn.features[:, 0], torch.ones(8), rtol=0, atol=1e-5)


def test_a_new_class_learned_alone_does_not_fire_on_an_old_look_alike():
    """The old class is no part of the new task's images; without its draws the new filter takes it for its own."""
    background, old, new = torch.tensor([[-3., 0., 0.], [3., 2., 0.], [3., -2., 0.]])
    first = gaussian_task([background, old], 400, 0, (0, 1))
    task = gaussian_task([background, new], 400, 1, (0, 1))
    moments = class_moments([first], 2, 3)
    drawn = draw_cells({0: moments[0], 1: moments[1]}, [0, 2], 128, seed=0)
    fires = {}
    for name, blocks in (('without', [task]), ('with', [task, drawn]), ('with all cells', [task, Cells(
            first.features, first.targets * torch.tensor([1., 0.]), first.weights)])):
        found = solve(blocks, torch.zeros(2, 3), torch.zeros(2), ['background', 'class 2'])
        scores = [cells.features[400:].double() @ found.weight[1] + found.bias[1] for cells in (first, task)]
        fires[name] = [(score > 0).double().mean().item() for score in scores]
    assert fires['without'][0] > 0.9
    assert fires['with'][0] < 0.05 and fires['with'][1] > 0.95
    assert fires['with'] == pytest.approx(fires['with all cells'], abs=0.02)


def weighing(*weights):
    return Cells(torch.zeros(len(weights), 1), torch.zeros(len(weights), 1), torch.tensor(weights))


def test_exemplars_weigh_as_much_as_the_task(monkeypatch):
    mixed = weighed_alike([weighing(1., 2.), weighing(3.)], [weighing(1., 2.), weighing(1.)])
    assert [cells.weights.tolist() for cells in mixed] == [[1, 2], [3], [1.5, 3], [1.5]]
    # The shares are those of all processes: the other one has 6 cells of its own and 8 of exemplars.
    monkeypatch.setattr('ssul_mmseg.solver.cells.all_reduce', lambda flat: flat.add_(torch.tensor([6., 8.])))
    mixed = weighed_alike([weighing(1., 2.), weighing(3.)], [weighing(4.)])
    assert [cells.weights.tolist() for cells in mixed] == [[1, 2], [3], [4]]
    assert [cells.weights.tolist() for cells in weighed_alike([weighing(6.)], [])] == [[6]]


def test_all_that_stands_for_earlier_tasks_weighs_as_much_as_the_task():
    mixed = weighed_alike([weighing(1., 2.), weighing(3.)], [weighing(2.)], [weighing(9., 3.)])
    assert [cells.weights.tolist() for cells in mixed] == [[1, 2], [3], [6], [4.5, 1.5]]


def test_exemplars_without_valid_pixel_are_reported():
    with pytest.raises(InputError, match='no valid pixel'):
        weighed_alike([weighing(1.)], [weighing(0.)])


def test_a_feature_that_is_not_finite_is_reported():
    cells = gaussian_task(torch.eye(3), 5, 0, (0, 1, 2))
    cells.features[0, 0] = math.nan
    with pytest.raises(InputError, match='NaN or infinite'):
        class_moments([cells], 3, 3)
