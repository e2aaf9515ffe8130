import itertools
import math

import pytest
import torch

from ssul_mmseg.errors import InputError
from ssul_mmseg.solver.cells import Cells
from ssul_mmseg.solver.ridge import FeatureMap, classifier, fold, learn, merge_states, sums, with_exemplars


def learned(state, blocks, features, names, power=0.4):
    """A state with one more task, from the task's cells."""
    return learn(state, sums(blocks, features, len(names)), names, power)


class Plain:
    """The features as they are, without a one: the hand-computed values have no bias."""

    mean = torch.zeros(2)
    size = 2

    def __call__(self, features):
        return features.double()


def rows(features, labels, columns=2):
    """Cells that show one label each."""
    labels = torch.tensor(labels)
    return Cells(torch.tensor(features), torch.nn.functional.one_hot(labels, columns).float(), torch.ones(len(labels)))


FIRST = rows([[1., 0.], [1., 1.]], [0, 1])
SECOND = rows([[0., 2.]], [1])
NONE = torch.zeros(0, 7)
BASE = torch.randn(4, 7, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(('blocks', 'power', 'expected'), [
    ([FIRST], 0, [[.4, .2], [-.2, .4]]),
    ([FIRST, SECOND], 0, [[.352941, .176471], [-.058824, .470588]]),
    ([FIRST, SECOND], 1, [[.411765, .117647], [-.058824, .411765]]),
])
def test_values_by_hand(blocks, power, expected):
    state = learned({}, blocks, Plain(), ['background', 'class 1'], power)
    torch.testing.assert_close(classifier(state, 1.0, power).T, torch.tensor(expected).double(), rtol=0, atol=1e-6)


def tasks(seed=0, count=400, width=6):
    """Three tasks of 2, 1 and 1 classes, with soft shares, unknown cells and background in all of them."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for classes in (2, 1, 1):
        logits = 2 * torch.randn(count, classes + 2, generator=generator)
        shares = logits.softmax(1)[:, :-1]  # the last is unknown
        features = torch.randn(count, width, generator=generator) + shares @ torch.randn(
            classes + 1, width, generator=generator) * 3
        result.append(Cells(features, shares, torch.rand(count, generator=generator)))
    return result


def mapped(base=NONE):
    raw = FeatureMap(base)
    return FeatureMap(base, *sums(tasks()[:1], raw, 3).statistics(6))


def names(cells):
    return ['background', *(f'class {c}' for c in range(1, cells.targets.shape[1]))]


def plain_ridge(blocks, columns_of, counts, features):
    """Filters (5, D) of the regression over all cells at once, a row for each cell and each label around it."""
    phi, target, weight = [], [], []
    for cells, columns in zip(blocks, columns_of, strict=True):
        for place, column in enumerate(columns):
            phi.append(features(cells.features))
            weight.append(cells.targets[:, place].double() * cells.weights.double() * counts[column]**-0.5)
            target.append(torch.zeros(len(cells.weights), 5).double())
            target[-1][:, column] = 1
    phi, target, weight = torch.cat(phi), torch.cat(target), torch.cat(weight)
    system = phi.T @ (weight[:, None] * phi) + torch.eye(phi.shape[1]).double()
    return torch.linalg.solve(system, phi.T @ (weight[:, None] * target)).T


def one_by_one(order, features):
    """The filters of background and of each task's classes, learned in an order of tasks."""
    state, all_tasks = {}, tasks()
    for task in order:
        state = learned(state, [all_tasks[task]], features, names(all_tasks[task]), power=0.5)
    filters = classifier(state, power=0.5)
    parts = filters[1:].split([all_tasks[task].targets.shape[1] - 1 for task in order])
    return filters[0], dict(zip(order, parts, strict=True))


@pytest.mark.parametrize('order', itertools.permutations(range(3)))
@pytest.mark.parametrize('settings', [{}, dict(base=BASE)], ids=['plain', 'with base'])
def test_tasks_one_by_one_in_any_order_equal_all_at_once(order, settings):
    features = mapped(**settings)
    background, parts = one_by_one(order, features)

    shown = [cells.weights.double() @ cells.targets.double() for cells in tasks()]
    counts = torch.cat([sum(counts[:1] for counts in shown), *(counts[1:] for counts in shown)])
    expected = plain_ridge(tasks(), ((0, 1, 2), (0, 3), (0, 4)), counts, features)

    torch.testing.assert_close(background, expected[0], rtol=0, atol=1e-9)
    for task, columns in enumerate(((1, 2), (3, ), (4, ))):
        torch.testing.assert_close(parts[task], expected[list(columns)], rtol=0, atol=1e-9)


def test_two_processes_sum_up_to_one(monkeypatch):
    cells = tasks()[0]
    halves = [Cells(cells.features[part], cells.targets[part], cells.weights[part])
              for part in (slice(0, 100), slice(100, None))]
    features = mapped(BASE)
    whole, other = (sums([part], features, 3) for part in (cells, halves[1]))
    theirs = torch.cat([part.flatten() for part in (other.grams, other.moments, other.counts)])
    monkeypatch.setattr('ssul_mmseg.solver.cells.all_reduce', lambda flat: flat.add_(theirs))
    found = sums(halves[:1], features, 3)
    for kind in ('grams', 'moments', 'counts'):
        torch.testing.assert_close(getattr(found, kind), getattr(whole, kind), rtol=0, atol=1e-9)


def test_a_process_without_cells_adds_nothing():
    cells = tasks()[0]
    empty = Cells(cells.features[:0], cells.targets[:0], cells.weights[:0])
    whole, more = (sums(blocks, mapped(), 3) for blocks in ([cells], [empty, cells, empty]))
    assert all(torch.equal(getattr(whole, kind), getattr(more, kind)) for kind in ('grams', 'moments', 'counts'))


def test_statistics_are_weighted():
    cells = Cells(torch.tensor([[1.], [5.], [9.]]), torch.tensor([[1.], [1.], [0.]]), torch.tensor([3., 1., 7.]))
    mean, deviation = sums([cells], FeatureMap(torch.zeros(0, 2)), 1).statistics(1)
    assert mean.tolist() == [2] and deviation.tolist() == pytest.approx([math.sqrt(3)])


def test_sums_of_raw_features_become_those_of_standardised_ones():
    cells, raw = tasks()[0], FeatureMap(BASE)
    expected = sums([cells], mapped(BASE), 3)
    found = sums([cells], raw, 3).map(mapped(BASE).from_raw())
    for kind in ('grams', 'moments', 'counts'):
        torch.testing.assert_close(getattr(found, kind), getattr(expected, kind), rtol=0, atol=1e-9)


def test_folded_filters_see_the_features_as_they_are():
    cells, features = tasks()[0], mapped(BASE)
    filters = torch.randn(5, features.size, dtype=torch.double)
    scores = FeatureMap(BASE)(cells.features) @ fold(filters, features).T
    torch.testing.assert_close(scores, features(cells.features) @ filters.T, rtol=0, atol=1e-9)


def test_exemplars_count_with_the_weights_of_their_classes_tasks():
    """The ridge over the cells of all tasks and of exemplars, which show every class, each class with its weight."""
    features, all_tasks = mapped(), tasks()
    state = {}
    for cells in all_tasks:
        state = learned(state, [cells], features, names(cells), 0.5)
    exemplars = Cells(torch.randn(30, 6), torch.rand(30, 5).softmax(1), torch.rand(30))
    found = classifier(with_exemplars(state, sums([exemplars], features, 5), 0.5), 1.0, 0.5)

    counts = state['counts'].clone()
    counts[0] += exemplars.weights.double() @ exemplars.targets[:, 0].double()
    expected = plain_ridge([*all_tasks, exemplars], ((0, 1, 2), (0, 3), (0, 4), range(5)), counts, features)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_the_base_s_opinion_by_hand():
    base = torch.tensor([[1., 0., 0.5], [0., 2., 0.]])
    features = FeatureMap(base)
    p = 1 / (1 + math.exp(-(3.5 - 4)))  # logits 3 + 0.5 and 2 * 2
    assert features.size == 5
    assert features(torch.tensor([[3., 2.]]).half())[0].tolist() == pytest.approx([3, 2, p, 1 - p, 1])


def test_a_constant_feature_becomes_zero():
    features = FeatureMap(torch.zeros(0, 3), torch.tensor([1., 7.]).double(), torch.tensor([2., 1e-9]).double())
    assert features(torch.tensor([[3., 7.]])).tolist() == [[1, 0, 1]]


def test_unknown_cells_count_nowhere():
    cells = tasks()[0]
    unknown = Cells(torch.randn(50, 6) * 9, torch.zeros(50, 3), torch.ones(50))
    without, with_unknown = (learned({}, blocks, mapped(), names(cells)) for blocks in ([cells], [cells, unknown]))
    for key in without:
        torch.testing.assert_close(with_unknown[key], without[key], rtol=0, atol=1e-12)


def test_weighting_learns_a_class_that_background_outnumbers():
    generator = torch.Generator().manual_seed(0)
    background, rare = torch.randn(20000, 6, generator=generator), torch.randn(40, 6, generator=generator) + 2.5
    cells = rows(torch.cat([background, rare]).tolist(), [0] * 20000 + [1] * 40)
    found = {}
    for power in (0, 0.5):
        filters = classifier(learned({}, [cells], mapped(), names(cells), power), 1.0, power)
        found[power] = (mapped()(rare) @ filters.T).argmax(1).float().mean().item()
    assert found[0] == 0 and found[0.5] > 0.3


def test_merging_adds_background_and_appends_classes():
    first, second = (dict(foreground=torch.eye(2) * i, background=torch.eye(2), moments=torch.full((2, 2), float(i)),
                          counts=torch.tensor([10. * i, i])) for i in (1, 2))
    state = merge_states(first, second)
    assert state['counts'].tolist() == [30, 1, 2] and state['moments'].tolist() == [[3, 3], [1, 1], [2, 2]]
    assert state['foreground'].tolist() == [[3, 0], [0, 3]]


def test_faults_are_reported():
    cells = tasks()[1]
    empty = Cells(cells.features, cells.targets * torch.tensor([1., 0.]), cells.weights)
    with pytest.raises(InputError, match='no training pixel shows class 1'):
        learned({}, [empty], mapped(), names(cells))
    broken = Cells(cells.features.clone(), cells.targets, cells.weights)
    broken.features[3, 3] = math.nan
    with pytest.raises(InputError, match='NaN or infinite'):
        learned({}, [broken], mapped(), names(cells))
    with pytest.raises(InputError, match='no labelled pixel'):
        sums([], mapped(), 3).statistics(6)
    with pytest.raises(InputError, match='gamma'):
        classifier(learned({}, [cells], mapped(), names(cells)), gamma=0)
