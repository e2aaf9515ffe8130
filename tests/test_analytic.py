"""The closed form: what tasks one by one end in is the plain ridge regression over all their images at once."""
import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
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

from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import evaluate_task, run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.models.segmentors import IncrementalSegmentor
from ssul_mmseg.prediction import Predictor

PREFIX = 'decode_head.classifiers.'
ANALYTIC = {'model.type': 'Analytic'}
NUM_BASE = 18


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', 60)


@pytest.fixture(scope='module')
def base(tree, tmp_path_factory):
    """A learned base task with exemplars."""
    return learned_base(tree, tmp_path_factory, **ANALYTIC)


def solved(tree, base, work_dir, tasks=(1, 2), **options):
    return solved_run(tree, base, work_dir, tasks, **{**ANALYTIC, **options})


def opinion(base, x):
    """Softmax (n, N) of the base task's filters on features (d, N)."""
    state, _ = learned(base, 0)
    scores = [state[f'{PREFIX}{name}.0.weight'].double().flatten(1) @ x
              + state[f'{PREFIX}{name}.0.bias'].double()[:, None] for name in ('background', 'task_0', 'unknown')]
    return torch.cat(scores).softmax(0)


def plain_cells(cfg, base, task, classes, exemplars=False, views=1):
    """Features (N, d + n), not standardised, and pixels (N, 1 + classes) of background and the classes."""
    parts = []
    for inputs, labels in samples(cfg, task, views, exemplars):
        x = trunk(cfg, learned(base, 0)[0], inputs)
        shown, _ = shares(labels, [0, *classes], x.shape[1:])
        x = x.flatten(1)
        parts.append((torch.cat([x, opinion(base, x)]).T, shown / views))
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def plain_ridge(cfg, base, last, power=.4, gamma=1., exemplars=False, views=1):
    """Filters (C, d + n + 1) for features and opinion as they are, from all images of the tasks up to ``last``."""
    tasks = [range(1, NUM_BASE + 1), *([NUM_BASE + t] for t in range(1, last + 1))]
    cells = [plain_cells(cfg, base, t, classes, views=views) for t, classes in enumerate(tasks)]
    first, pixels = cells[0]
    total = pixels.sum(1)
    mean = (total @ first[:, :8]) / total.sum()
    deviation = ((total @ first[:, :8]**2) / total.sum() - mean**2).sqrt()
    gain = torch.where(deviation > 1e-6 * deviation.mean(), 1 / deviation, 0.)
    columns = [[0, *classes] for classes in tasks]
    counts = torch.zeros(NUM_BASE + last + 1, dtype=torch.double)
    for (_, shown), known in zip(cells, columns, strict=True):
        counts[known] += shown.sum(0)
    if exemplars:
        cells.append(plain_cells(cfg, base, last, range(1, NUM_BASE + last + 1), exemplars=True, views=views))
        columns.append(list(range(NUM_BASE + last + 1)))
        counts[0] += cells[-1][1][:, 0].sum()
    system, right = gamma * torch.eye(8 + NUM_BASE + 2 + 1, dtype=torch.double), 0
    for (x, shown), known in zip(cells, columns, strict=True):
        phi = torch.cat([(x[:, :8] - mean) * gain, x[:, 8:], torch.ones_like(x[:, :1])], dim=1)
        weighted = shown * counts[known]**-power
        target = torch.zeros(len(known), len(counts), dtype=torch.double)
        target[range(len(known)), known] = 1
        system = system + (phi * weighted.sum(1, keepdim=True)).T @ phi
        right = right + phi.T @ (weighted @ target)
    filters = torch.linalg.solve(system, right).T
    x, rest, bias = filters[:, :8] * gain, filters[:, 8:-1], filters[:, -1] - filters[:, :8] @ (gain * mean)
    return torch.cat([x, rest, bias[:, None]], dim=1)


def filters(work_dir, task):
    """The filters of a learned task in the same form."""
    state, _ = learned(work_dir, task)
    names = ['background', *(f'task_{t}' for t in range(task + 1))]
    return torch.cat([torch.cat([state[f'{PREFIX}{name}.0.weight'].flatten(1),
                                 state[f'{PREFIX}{name}.0.bias'][:, None]], dim=1) for name in names]).double()


@pytest.mark.parametrize('options', [{}, {'model.power': .5, 'model.gamma': 10.}, {'saliency': None}], ids=str)
def test_tasks_one_by_one_end_in_the_plain_ridge_over_all_images(tree, base, tmp_path, options):
    if options:
        run_scenario(config(tree, tmp_path / 'base', **ANALYTIC, **options), range(1))
        base = tmp_path / 'base'
    cfg = solved(tree, base, tmp_path / 'a', **options)
    power, gamma = options.get('model.power', .4), options.get('model.gamma', 1.)
    for task in (1, 2):
        expected = plain_ridge(cfg, base, task, power, gamma)
        torch.testing.assert_close(filters(tmp_path / 'a', task), expected, rtol=1e-5, atol=1e-6)


def test_exemplars_count_beside_the_sums_of_all_tasks(tree, base, tmp_path):
    cfg = solved(tree, base, tmp_path, memory=10)
    for task in (1, 2):
        torch.testing.assert_close(filters(tmp_path, task), plain_ridge(cfg, base, task, exemplars=True),
                                   rtol=1e-5, atol=1e-6)
    assert (filters(tmp_path, 2) - plain_ridge(cfg, base, 2)).abs().max() > 1e-3


def test_views_share_the_weight_of_an_image(tree, tmp_path):
    cfg = config(tree, tmp_path, **ANALYTIC, **{'model.views': 2})
    run_scenario(cfg, range(2))
    torch.testing.assert_close(filters(tmp_path, 1), plain_ridge(cfg, tmp_path, 1, views=2), rtol=1e-5, atol=1e-6)


def test_the_base_task_is_ssul_s(tree, base, tmp_path):
    run_scenario(config(tree, tmp_path, memory=10), range(1))
    for key, value in learned(tmp_path, 0)[0].items():
        assert torch.equal(learned(base, 0)[0][key], value), key


def test_trunk_and_the_base_s_opinion_stay_as_they_are(tree, base, tmp_path):
    solved(tree, base, tmp_path)
    before, after = learned(base, 0)[0], learned(tmp_path, 2)[0]
    for key, value in before.items():
        assert key.startswith(PREFIX) or torch.equal(after[key], value), key
    for kind in ('weight', 'bias'):
        trained = torch.cat([before[f'{PREFIX}{name}.0.{kind}'] for name in ('background', 'task_0', 'unknown')])
        assert torch.equal(after[f'{PREFIX}base.0.{kind}'], trained)


def test_a_task_costs_one_pass(tree, base, tmp_path, monkeypatch):
    passed = []
    maps = IncrementalSegmentor.backbone_maps
    monkeypatch.setattr(IncrementalSegmentor, 'backbone_maps', lambda self, x: passed.append(len(x)) or maps(self, x))
    images = [entry['num_images'] for entry in
              run_scenario(config(tree, tmp_path, **ANALYTIC, **{'feature_cache.views': 1}), (1, 2),
                           start_from=base)['tasks']]
    # In groups of four, of which the last is filled up; the 60 test images once for both tasks.
    assert sum(passed) == sum(-(-count // 4) * 4 for count in images[1:]) + 60


@torch.no_grad()
def test_predictions_are_the_argmax_of_the_plain_scores(tree, base, tmp_path):
    cfg = solved(tree, base, tmp_path)
    image = sorted((tree / 'JPEGImages').glob('*.jpg'))[3]
    predictor = Predictor(cfg, 2)
    prediction = predictor.predict(image)
    pixels = torch.from_numpy(prediction.pixels.copy()).permute(2, 0, 1)[None].double()
    mean, deviation = (torch.tensor(cfg.model.data_preprocessor[key]).view(1, 3, 1, 1) for key in ('mean', 'std'))
    x = trunk(cfg, learned(base, 0)[0], ((pixels - mean) / deviation).float())
    flat = x.flatten(1)
    phi = torch.cat([flat, opinion(base, flat), torch.ones_like(flat[:1])])
    scores = (filters(tmp_path, 2) @ phi).view(1, -1, *x.shape[1:])
    plain = F.interpolate(scores, prediction.labels.shape, mode='bilinear')[0].argmax(0)
    assert (plain.numpy() == prediction.labels).mean() > .999
    assert prediction.classes[-1] == 'tvmonitor' and len(prediction.classes) == 21
    final = json.loads((tmp_path / 'results.json').read_text())['final']['all']
    assert evaluate_task(Run(cfg), 2)['mIoU_all'] == pytest.approx(final, abs=1e-6)


@pytest.mark.parametrize('place', ['pass', 'ridge'])
def test_a_killed_run_goes_on_to_the_same_bits(tree, tmp_path, place):
    mark = tmp_path / 'held'
    killed(tool(tree, tmp_path / 'a', ANALYTIC, hold=(place, str(mark))), mark)
    assert not (tmp_path / 'a/task_2/weights.pth').exists()
    shutil.copytree(tmp_path / 'a', tmp_path / 'b', ignore=shutil.ignore_patterns('task_2'))
    for name in 'ab':
        run_tool(tool(tree, tmp_path / name, ANALYTIC, resume=True))
    assert_same_bits(tmp_path / 'a', tmp_path / 'b', 2)


def test_two_processes_equal_one(tree, base, tmp_path):
    assert_two_processes_equal_one(tree, base, tmp_path, ANALYTIC)


def test_two_processes_gather_the_base_task_s_sums(tree, base, tmp_path):
    """From the weights of one process, without an update: the sums of task 0 alone are compared."""
    sums = {}
    for name, processes in (('one', None), ('two', 2)):
        run_tool(tool(tree, tmp_path / name, {**ANALYTIC, 'optim_wrapper.optimizer.lr': 0,
                                              'model.decode_head.norm_cfg.momentum': 0.,
                                              'model.backbone.norm_cfg.momentum': 0.}, processes=processes, tasks='0'))
        sums[name] = learned(tmp_path / name, 0)[1]
    assert sums['one'].keys() == {'foreground', 'background', 'moments', 'counts', 'mean', 'deviation'}
    for key, value in sums['one'].items():
        torch.testing.assert_close(sums['two'][key], value, rtol=1e-5, atol=1e-5, msg=lambda m, k=key: f'{k} {m}')


def test_a_base_task_without_sums_is_refused(tree, tmp_path):
    run_scenario(config(tree, tmp_path / 'ssul'), range(1))
    with pytest.raises(InputError, match='no sums of a regression'):
        run_scenario(config(tree, with_task_0(tmp_path / 'ssul', tmp_path / 'ours'), **ANALYTIC), (1, ))


def test_ssul_goes_on_from_the_base_task(tree, base, tmp_path):
    document = run_scenario(config(tree, tmp_path), (1, 2), start_from=base)
    assert document['final']['all'] is not None


def test_features_that_are_not_finite_are_one_sentence(tree, base, tmp_path):
    broken = change_weights(base, tmp_path / 'base', lambda state: state['backbone.conv1.weight'].fill_(float('nan')))
    with pytest.raises(InputError, match='NaN or infinite'):
        solved(tree, broken, tmp_path / 'a')
    assert not (tmp_path / 'a/task_1/weights.pth').exists()


def test_a_class_without_a_pixel_after_cropping_is_one_sentence(tmp_path):
    tree = voc_tree(tmp_path / 'voc', 40, num_classes=18)
    for place, label in ((0, 19), (1, 20)):
        path = sorted((tree / 'SegmentationClassAug').glob('*.png'))[place]
        mask = Image.open(path)
        mask.putpixel((0, 0), label)
        mask.save(path)
    with pytest.raises(InputError, match='no training pixel shows train'):
        run_scenario(config(tree, tmp_path / 'run', **ANALYTIC, **{'incremental.crop_size': (8, 8)}))


@pytest.mark.parametrize(('options', 'message'), [
    ({'model.gamma': 0}, 'model.gamma is 0'),
    ({'model.power': 2}, 'model.power is 2'),
    ({'model.views': 0}, 'model.views is 0'),
    ({'model.decode_head.classifier': 'conv'}, "'conv', which Analytic cannot learn"),
    ({'model.type': 'SSUL', 'model.decode_head.classifier': 'hybrid'}, "'hybrid', which SSUL cannot learn"),
    ({'incremental.solver.type': 'Newton'}, 'Analytic solves its tasks itself'),
], ids=str)
def test_wrong_options_are_refused_before_training(tree, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run_scenario(config(tree, tmp_path, **{**ANALYTIC, **options}))
    assert not list(tmp_path.rglob('*.pth'))
