"""The benchmark's solved tasks: all cells, from the same start every time, and ratios that hand-made numbers check."""
import gc
import weakref

import pytest
import torch
from speed.report import markdown
from speed.settings import TINY, Options
from speed.solve import METHODS, build_pass, build_solution, newton_task, random_sums, solved_seconds
from speed.targets import target
from speed.task import solution_targets
from tiny import ROOT

from ssul_mmseg.engine.feature_cache import FeatureCache
from ssul_mmseg.errors import InputError
from ssul_mmseg.solver.newton import DECAY

OPTIONS = Options(ROOT / 'configs', TINY, 'cpu')
CLASSES, SURVIVORS, IMAGES = (6, 1), 3, 5
CELLS = IMAGES * 5 * 5
"""33 pixels at output stride 8 are 5 cells."""


@pytest.fixture(scope='module', params=METHODS)
def solved(request):
    return METHODS[request.param](OPTIONS, CLASSES, SURVIVORS, IMAGES)


def filters(task):
    return {key: value.clone() for key, value in task.model.decode_head.classifiers.state_dict().items()}


def test_a_solution_is_that_of_all_cells_from_its_start_and_nothing_passes_the_trunk(solved):
    passed = []
    handle = solved.model.backbone.register_forward_hook(lambda *_: passed.append(1))
    first, start = solved(), filters(solved)
    second = solved()
    handle.remove()
    # What is solved already would need no step, and sums would be added twice.
    assert first == second and all(torch.equal(value, start[key]) for key, value in filters(solved).items())
    assert first.get('steps', 2) > 1
    assert not passed and solved.images.num_cells == CELLS


def test_newton_ends_where_the_gradient_over_the_kept_cells_is_zero():
    task = newton_task(OPTIONS, CLASSES, SURVIVORS, IMAGES)
    start = {key: value.double() for key, value in filters(task).items()}
    task()
    head, entries = task.model.decode_head, [task.images.cache[place, 0] for place in range(IMAGES)]
    inputs = torch.cat([entry.features[0].flatten(1).T.double() for entry in entries])
    inputs = torch.cat([inputs, torch.ones(CELLS, 1)], dim=1)
    shown = torch.cat([entry.labels.flatten(1).T.double() for entry in entries])
    weight = shown[:, -1]
    assert (inputs[:25, :-1] - inputs[50:75, :-1]).abs().mean() > .01  # the copies of an image differ
    for column, name in enumerate(('background', 'task_1', 'unknown')):
        own = torch.cat([head.filters(name).weight.flatten(), head.biases(name)]).double()
        error = weight * ((inputs @ own).sigmoid() - shown[:, column])
        gradient = inputs.T @ error
        gradient[:-1] += DECAY * weight.sum() * (own[:-1] - start[f'{name}.0.weight'].flatten())
        assert gradient.norm() / (weight * inputs.norm(dim=1)).sum() < 1e-5, name
        assert 0 < (weight * shown[:, column]).sum() < weight.sum()


@pytest.mark.parametrize(('amp', 'dtype'), [('none', torch.float32), ('bf16', torch.bfloat16)])
def test_every_image_of_the_batch_passes_the_trunk_once_in_the_run_s_precision(amp, dtype):
    options = Options(ROOT / 'configs', TINY, 'cpu', amp)
    model = newton_task(options, CLASSES, SURVIVORS, 1).model
    passed = []
    model.backbone.register_forward_hook(lambda _, inputs, maps: passed.append((len(inputs[0]), maps[-1].dtype)))
    work = build_pass(options, model)
    work()
    work()
    assert passed == [(TINY.batch, dtype)] * 2


def test_without_its_solution_nothing_happens():
    assert build_solution(OPTIONS, 'newton', CLASSES, SURVIVORS, 2, False)() is None
    assert build_solution(OPTIONS, 'newton', CLASSES, SURVIVORS, 2, True)()['steps'] > 1


def test_cells_that_the_memory_cannot_hold_are_reported(monkeypatch):
    monkeypatch.setattr(FeatureCache, '_free_bytes', lambda _: 3000)
    with pytest.raises(InputError, match='free memory'):
        newton_task(OPTIONS, CLASSES, SURVIVORS, IMAGES)


def test_random_sums_are_those_of_a_regression():
    state = random_sums(3, 7, 5)
    assert state['foreground'].shape == (7, 7) and torch.linalg.eigvalsh(state['foreground']).min() > 0
    assert state['moments'].shape == (5, 7) and state['mean'].shape == (3, )


def test_seconds_of_a_solved_task_by_hand():
    assert solved_seconds(10, 2., 5.) == dict(seconds=25., share_of_solution=.2)


def test_a_target_says_whether_it_is_reached():
    assert target('x', 3, least=3)['met'] and target('x', 3, most=3)['met']
    assert target('x', 2.9, least=3)['met'] is False and target('x', 3.1, most=3)['met'] is False
    assert target('x', None, most=3)['met'] is None


def test_targets_of_solved_tasks_by_hand():
    solution = dict(
        growth=dict(old_classes=['10', '1000', 'more'], ratio=dict(newton=1.0, analytic=1.2)),
        share_of_task=dict(newton=.04, analytic=.06),
        memory_bytes=dict(newton=dict(added=150e6), analytic=dict(added=None)))
    found = solution_targets(dict(reference=1000., cached=40., newton=10., analytic=5.), solution)
    assert [each['value'] for each in found] == [100, 4, .04, 1.0, 150, 200, 8, .06, 1.2, None]
    assert [each['met'] for each in found] == [True, False, True, True, True, True, True, False, False, None]
    assert "with 1000 old classes / with 10" in found[3]['what']


def test_a_missed_target_is_written_in_capitals():
    versions = dict(versions=dict(torch='2'), date='now', cpu='a', cores=1, threads=1, gpu=None)
    options = dict(network='n', crop=1, batch=2, amp='none', repetitions=3)
    result = dict(added_images=60, seconds={}, targets=[target('a', 12.34, most=10), target('b', 9, most=10)])
    text = markdown(dict(machine=versions, options=options, definitions={}, shell=result))
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines() if line.startswith('|')]
    assert ['a', '12.3', 'at most 10', 'MISSED'] in rows and ['b', '9', 'at most 10', 'reached'] in rows


@pytest.mark.parametrize('solves', [True, False])
def test_network_and_cells_are_there_while_their_memory_is_measured(monkeypatch, solves):
    made = []

    def build(*args):
        task = newton_task(*args)
        made.append(weakref.ref(task))
        return task
    monkeypatch.setitem(METHODS, 'newton', build)
    work = build_solution(OPTIONS, 'newton', CLASSES, SURVIVORS, IMAGES, solves)
    gc.collect()
    assert made[0]() is not None and callable(work)
