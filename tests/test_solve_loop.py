"""SSUL's tasks, solved: what a run ends in is the minimum of the plain problem, however the run came there."""
import re
import shutil

import pytest
import torch
import torch.nn.functional as F
from solved import (
    assert_same_bits,
    assert_two_processes_equal_one,
    change_weights,
    config,
    killed,
    learned,
    learned_base,
    run_tool,
    samples,
    shares,
    solved_run,
    tool,
    trunk,
    with_task_0,
)
from tiny import voc_tree

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.methods import ssul
from ssul_mmseg.models.segmentors import IncrementalSegmentor
from ssul_mmseg.scenario import UNKNOWN
from ssul_mmseg.solver.newton import DECAY

PREFIX = 'decode_head.classifiers.'
NEWTON = {'incremental.solver': dict(type='Newton', tolerance=1e-9)}


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', 60)


@pytest.fixture(scope='module')
def base(tree, tmp_path_factory):
    """A learned base task with exemplars and moments, to start all runs from."""
    return learned_base(tree, tmp_path_factory, **NEWTON, **{'model.draws': 300})


def solved(tree, base, work_dir, tasks=(1, 2), **options):
    """Run tasks from the base task on; returns the config."""
    return solved_run(tree, base, work_dir, tasks, **{**NEWTON, **options})


def filters(state, names):
    """Filters (K, d) and biases (K,) in double."""
    weights = [state[f'{PREFIX}{name}.0.weight'].double().flatten(1) for name in names]
    biases = [state[f'{PREFIX}{name}.0.bias'].double() for name in names]
    return torch.cat(weights), torch.cat(biases)


def plain_targets(features, labels, old, old_names, num_old):
    """Eq. 1 with the network of the task before, for one image."""
    weight, bias = filters(old, ['background', *old_names, 'unknown'])
    scores = F.interpolate(torch.einsum('kd,dhw->khw', weight, features)[None] + bias.view(1, -1, 1, 1),
                           labels.shape, mode='bilinear')[0]
    best = scores.argmax(0)
    confident = (best > 0) & (best <= num_old) & (scores.amax(0).sigmoid() > .7)
    return torch.where(((labels == 0) | (labels == UNKNOWN)) & confident, best, labels)


def plain_cells(cfg, base, task, views=1, exemplars=False):
    """Features (N, d), pixels (N, 3) of [background, new class, unknown], valid pixels (N,)."""
    old, _ = learned(cfg.work_dir, task - 1)
    parts = []
    for inputs, labels in samples(cfg, task, views, exemplars):
        x = trunk(cfg, learned(base, 0)[0], inputs)
        num_old = 17 + task
        target = plain_targets(x, labels, old, [f'task_{t}' for t in range(task)], num_old)
        shown, valid = shares(target, [0, num_old + 1, UNKNOWN], x.shape[1:])
        parts.append((x.flatten(1).T, shown / views, valid / views))
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def starts_of(before):
    """The filters of the task before, of unknown for the new class: (K, d + 1) for [background, new class, unknown]."""
    weight, bias = filters(before, ['background', 'unknown', 'unknown'])
    return torch.cat([weight, bias[:, None]], dim=1)


def plain_minimum(x, shown, valid, starts, decay):
    """Newton's method in its plainest form, filter by filter."""
    ones = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    penalty = torch.full((ones.shape[1], ), decay, dtype=torch.double) * valid.sum()
    penalty[-1] = 0
    found = []
    for pixels, start in zip(shown.unbind(1), starts, strict=True):
        w = start.clone()
        for _ in range(100):
            p = (ones @ w).sigmoid()
            gradient = ones.T @ (valid * p - pixels) + penalty * (w - start)
            step = torch.linalg.solve((ones * (valid * p * (1 - p))[:, None]).T @ ones + penalty.diag(), gradient)
            w -= step / max(1, step.abs().max())
        assert gradient.norm() < 1e-9
        found.append(w)
    return torch.stack(found)


@pytest.mark.parametrize('views', [1, 2])
@pytest.mark.parametrize('memory', [0, 10])
def test_weights_are_the_minimum_of_the_plain_problem(tree, base, tmp_path, memory, views):
    cfg = solved(tree, base, tmp_path, memory=memory,
                 **{'incremental.solver': dict(type='Newton', tolerance=1e-9, decay=.5, views=views)})
    for task in (1, 2):
        x, shown, valid = plain_cells(cfg, base, task, views)
        if memory:
            replayed = plain_cells(cfg, base, task, views, exemplars=True)
            share = valid.sum() / replayed[2].sum()
            x = torch.cat([x, replayed[0]])
            shown, valid = (torch.cat([own, part * share]) for own, part in zip((shown, valid), replayed[1:],
                                                                               strict=True))
        expected = plain_minimum(x, shown, valid, starts_of(learned(tmp_path, task - 1)[0]), .5)
        weight, bias = filters(learned(tmp_path, task)[0], ['background', f'task_{task}', 'unknown'])
        torch.testing.assert_close(torch.cat([weight, bias[:, None]], dim=1), expected, rtol=1e-5, atol=1e-5)


def test_the_trunk_and_old_classes_stay_as_they_are(tree, base, tmp_path):
    solved(tree, base, tmp_path)
    (before, _), (after, _) = learned(base, 0), learned(tmp_path, 2)
    moved = {key for key, value in before.items() if not torch.equal(after[key], value)}
    assert moved == {f'{PREFIX}{name}.0.{kind}' for name in ('background', 'unknown') for kind in ('weight', 'bias')}


@pytest.mark.parametrize('cache', [dict(limit=0.), dict(location='disk'), dict(limit=2e-6)], ids=str)
def test_where_and_how_much_is_kept_does_not_matter(tree, base, tmp_path, monkeypatch, cache):
    passed = []
    maps = IncrementalSegmentor.backbone_maps
    monkeypatch.setattr(IncrementalSegmentor, 'backbone_maps', lambda self, x: passed.append(self.training) or
                        maps(self, x))
    counts = []
    for name, kept in (('a', {}), ('b', cache)):
        passed.clear()
        solved(tree, base, tmp_path / name, memory=10, tasks=(1, ), feature_cache=dict(views=1, **kept))
        counts.append(sum(passed))
    for key, value in learned(tmp_path / 'a', 1)[0].items():
        assert torch.equal(learned(tmp_path / 'b', 1)[0][key], value), key
    # Six images of the task and ten exemplars, in groups of four.
    assert counts[0] == 2 + 3 and (counts[1] > 20) == ('limit' in cache)


def test_draws_are_negatives_and_moments_add_up(tree, base, tmp_path):
    cfg = solved(tree, base, tmp_path / 'a', **{'model.draws': 300})
    (_, first), (_, last) = learned(base, 0), learned(tmp_path / 'a', 2)
    assert first['moments'].shape == (19, 9, 9) and last['moments'].shape == (21, 9, 9)
    assert torch.equal(last['moments'][1:19], first['moments'][1:])
    background = first['moments'][0]
    for task in (1, 2):
        x, shown, _ = plain_cells(cfg, base, task)
        ones = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        background = background + (ones * shown[:, :1]).T @ ones
        torch.testing.assert_close(last['moments'][18 + task], (ones * shown[:, 1:2]).T @ ones, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(last['moments'][0], background, rtol=1e-5, atol=1e-5)
    # On the mean of an old class the new filters say no more than without its draws.
    solved(tree, base, tmp_path / 'b')
    means = first['moments'][1:, :-1, -1] / first['moments'][1:, -1:, -1]
    scores = []
    for name in 'ab':
        weight, bias = filters(learned(tmp_path / name, 2)[0], ['task_2'])
        scores.append((means[first['moments'][1:, -1, -1] > 0] @ weight.T + bias).mean())
    assert scores[0] < scores[1] - .1


def test_moments_of_the_base_task_are_those_of_its_pixels(tree, base):
    cfg = config(tree, base, memory=10, **NEWTON)
    expected = torch.zeros(19, 9, 9, dtype=torch.double)
    for inputs, labels in samples(cfg, 0):
        x = trunk(cfg, learned(base, 0)[0], inputs)
        shown, _ = shares(labels, range(19), x.shape[1:])
        ones = torch.cat([x.flatten(1).T, torch.ones(x[0].numel(), 1, dtype=torch.double)], dim=1)
        expected += torch.einsum('nk,ni,nj->kij', shown, ones, ones)
    torch.testing.assert_close(learned(base, 0)[1]['moments'], expected, rtol=1e-5, atol=1e-4)


def test_without_saliency_unknown_is_never_predicted(tree, base, tmp_path):
    solved(tree, base, tmp_path, tasks=(1, ), saliency=None, **{'model.tau': None})
    state, _ = learned(tmp_path, 1)
    assert not state[f'{PREFIX}unknown.0.weight'].any() and state[f'{PREFIX}unknown.0.bias'].item() == ssul.NEVER


@pytest.mark.parametrize('place', ['pass', 'newton'])
def test_a_killed_run_goes_on_to_the_same_bits(tree, tmp_path, place):
    options = {'incremental.solver.type': 'Newton', 'feature_cache.views': 1, 'model.draws': 100}
    mark = tmp_path / 'held'
    killed(tool(tree, tmp_path / 'a', options, hold=(place, str(mark))), mark)
    assert not (tmp_path / 'a/task_2/weights.pth').exists()
    shutil.copytree(tmp_path / 'a', tmp_path / 'b', ignore=shutil.ignore_patterns('task_2'))
    run_tool(tool(tree, tmp_path / 'a', options, resume=True))
    run_tool(tool(tree, tmp_path / 'b', options, resume=True))
    assert_same_bits(tmp_path / 'a', tmp_path / 'b', 2)
    logs = ''.join(path.read_text() for path in (tmp_path / 'a/task_2').rglob('*.log'))
    assert re.search(r'task 2 is solved: steps \d+, loss \S+, gradient_norm \S+, seconds_of_pass', logs)
    assert not list((tmp_path / 'a').rglob('*.tmp')) and not list((tmp_path / 'a').rglob('checkpoint*'))


def test_two_processes_equal_one(tree, base, tmp_path):
    options = {'incremental.solver.type': 'Newton', 'incremental.solver.tolerance': 1e-9, 'model.draws': 300}
    assert_two_processes_equal_one(tree, base, tmp_path, options)


def test_features_that_are_not_finite_are_one_sentence(tree, base, tmp_path):
    broken = change_weights(base, tmp_path / 'base', lambda state: state['backbone.conv1.weight'].fill_(float('nan')))
    with pytest.raises(InputError, match='NaN or infinite'):
        solved(tree, broken, tmp_path / 'a')
    assert not (tmp_path / 'a/task_1/weights.pth').exists()


def constant(state):
    """Make the first feature one value everywhere."""
    state['decode_head.bottleneck.bn.weight'][0] = 0
    state['decode_head.bottleneck.bn.bias'][0] = 2


def test_a_constant_feature_does_no_harm(tree, base, tmp_path):
    cfg = solved(tree, change_weights(base, tmp_path / 'base', constant), tmp_path / 'a', tasks=(1, ))
    x, shown, valid = plain_cells(cfg, tmp_path / 'base', 1)
    assert bool((x[:, 0] == 2).all())
    weight, bias = filters(learned(tmp_path / 'a', 1)[0], ['background', 'task_1', 'unknown'])
    expected = plain_minimum(x, shown, valid, starts_of(learned(tmp_path / 'base', 0)[0]), DECAY)
    torch.testing.assert_close(torch.cat([weight, bias[:, None]], dim=1), expected, rtol=1e-5, atol=1e-5)


def test_a_class_without_a_pixel_after_cropping_is_one_sentence(tmp_path):
    from PIL import Image
    tree = voc_tree(tmp_path / 'voc', 40, num_classes=18)
    for place, label in ((0, 19), (1, 20)):
        path = sorted((tree / 'SegmentationClassAug').glob('*.png'))[place]
        mask = Image.open(path)
        mask.putpixel((0, 0), label)
        mask.save(path)
    cfg = config(tree, tmp_path / 'run', **NEWTON, **{'incremental.crop_size': (8, 8)})
    with pytest.raises(InputError, match='no training pixel shows train'):
        run_scenario(cfg)


@pytest.mark.parametrize(('options', 'message'), [
    ({'incremental.solver': dict(type='Newton', decya=1)}, "there is no 'decya' in solver"),
    ({'incremental.solver': 'Newton'}, 'solver is a group of values'),
    ({'incremental.solver.type': 'Newton', 'incremental.solver.decya': 1}, "there is no 'decya'"),
    ({'incremental.solver': dict(type='Newton', decay=-1)}, 'solver.decay is -1'),
    ({'incremental.solver': dict(type='Newton', views=0)}, 'solver.views is 0'),
    ({'incremental.solver': dict(type='Newton', max_iterations=1.5)}, 'solver.max_iterations is 1.5'),
    ({'incremental.solver.type': 'Newtno'}, "choose one of sgd, Newton"),
    ({'solver': dict(type='Newton')}, 'set incremental.solver'),
    ({**NEWTON, 'model.freeze': False}, 'set model.freeze=True'),
    ({**NEWTON, 'model.decode_head.classifier': 'conv'}, 'set model.decode_head.classifier=linear'),
    ({**NEWTON, 'model.decode_head.loss_decode': dict(type='SoftmaxCELoss')}, 'SigmoidBCELoss'),
    ({**NEWTON, 'model.type': 'FineTuning'}, 'FineTuning has no solver'),
    ({'model.draws': 9}, 'set incremental.solver.type=Newton'),
    ({'model.draws': -1}, 'model.draws is -1'),
], ids=str)
def test_what_cannot_be_solved_is_refused_before_training(tree, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run_scenario(config(tree, tmp_path, **options))
    assert not list(tmp_path.rglob('*.pth'))


def test_the_type_sgd_is_the_paper_s_procedure(tree, base, tmp_path):
    for name, options in (('a', {}), ('b', {'incremental.solver': dict(type='sgd')})):
        run_scenario(config(tree, tmp_path / name, **options), (1, ), start_from=base)
    for key, value in learned(tmp_path / 'a', 1)[0].items():
        assert torch.equal(learned(tmp_path / 'b', 1)[0][key], value), key


def test_draws_need_the_base_task_s_moments(tree, base, tmp_path):
    run_scenario(config(tree, tmp_path / 'a', **NEWTON), range(1))
    with pytest.raises(InputError, match='learned without'):
        run_scenario(config(tree, with_task_0(tmp_path / 'a', tmp_path / 'b'), **NEWTON, **{'model.draws': 300}), (1, ))


def test_the_pass_is_shown(tree, base, tmp_path, capsys):
    solved(tree, base, tmp_path, tasks=(1, ))
    assert '100%  features' in capsys.readouterr().err
