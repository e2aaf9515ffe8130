"""The image posterior against hand-computed values, and in whole runs against a plain regression."""
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from solved import (
    assert_two_processes_equal_one,
    change_weights,
    config,
    learned,
    learned_base,
    samples,
    solved_run,
    trunk,
    with_task_0,
)
from tiny import tiny_model, voc_tree

from ssul_mmseg.engine.learned_network import learned_network
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import evaluate_task, run_scenario
from ssul_mmseg.engine.shared_features import fixed_name
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.methods.ipseg import CERTAIN, pooled, presence, with_odds, with_scores
from ssul_mmseg.models.batch import Batch
from ssul_mmseg.models.portable import PortableNetwork
from ssul_mmseg.prediction import Predictor
from ssul_mmseg.solver.replay import draw_cells

NEWTON = {'incremental.solver.type': 'Newton'}
IPSEG = {'model.type': 'IPSeg', 'model.image_decay': 10., 'model.image_draws': 60}
NUM_BASE = 18


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', 60)


@pytest.fixture(scope='module')
def base(tree, tmp_path_factory):
    """A learned base task with exemplars."""
    return learned_base(tree, tmp_path_factory, **IPSEG)


@pytest.fixture(scope='module')
def solved(tree, base, tmp_path_factory):
    """The config of a run whose later tasks are solved."""
    return solved_run(tree, base, tmp_path_factory.mktemp('solved'), **IPSEG, **NEWTON)


def test_scores_are_products_by_hand():
    """Background has the posterior 0.9, two classes sigmoid(2) and sigmoid(-1)."""
    logits = torch.tensor([.6, .5, .7]).logit().view(1, 3, 1, 1)
    posterior = torch.tensor([[.9, torch.tensor(2.).sigmoid(), torch.tensor(-1.).sigmoid()]])
    found = with_scores(logits, posterior).sigmoid().flatten()
    assert found.tolist() == pytest.approx([.54, .440399, .188259], abs=1e-6)


def test_odds_are_products_by_hand():
    """Odds of 3 and 1 become 1.5 and 0.2."""
    found = with_odds(torch.tensor([.75, .5]).logit().view(1, 2, 1, 1), torch.tensor([[.5, .2]]))
    assert found.exp().flatten().tolist() == pytest.approx([1.5, .2])


def test_a_posterior_of_1_changes_no_score_and_large_logits_stay_numbers():
    logits = torch.tensor([-200., -3., 0., 200.]).view(1, 1, 1, 4).expand(1, 2, 1, 4)
    sure, unsure = with_scores(logits, torch.tensor([[1., .3]]))[0, :, 0]
    assert torch.equal(sure, logits[0, 0, 0])
    # At 200 the score is the posterior; at -200 it is the old one, times 0.3.
    assert unsure.tolist() == pytest.approx([-200 + torch.tensor(.3).log().item(), *unsure[1:3].tolist(),
                                             torch.tensor(.3).logit().item()], abs=1e-4)
    assert unsure.sigmoid()[1:3].tolist() == pytest.approx((.3 * logits[0, 0, 0].sigmoid())[1:3].tolist(), abs=1e-6)


def test_pooled_features_are_means_and_maxima():
    features = torch.tensor([[[[1., 2.], [3., 6.]], [[-1., -1.], [-5., -1.]]]])
    assert pooled(features.half()).tolist() == [[3., -2., 6., -1.]]


def test_a_class_is_there_on_more_than_1000_pixels_of_513_x_513():
    targets = torch.zeros(2, 513, 513, dtype=torch.long)
    targets[0].view(-1)[:1000], targets[1].view(-1)[:1001], targets[1].view(-1)[2000:3000] = 3, 3, 4
    assert presence(Batch(targets, targets=targets), [3, 4]).tolist() == [[0., 0.], [1., 0.]]


@pytest.mark.parametrize('weighs', ['odds', 'scores'])
def test_scores_of_a_network_and_its_floor(weighs):
    model = tiny_model([2, 1], 'IPSeg', weighs=weighs, background=.9).eval()
    with torch.no_grad():
        for number, classifier in enumerate(model.posterior.values()):
            classifier.weight.normal_(std=.1, generator=torch.Generator().manual_seed(number))
            classifier.bias.fill_(-1.)
        model.posterior['task_1'].weight.zero_()
        model.posterior['task_1'].bias.fill_(-9.)  # below the floor
        features = model.trunk(torch.randn(2, 3, 40, 40))
        found, plain = model.predicted_logits(features), model.decode_head.classify(features)
        image = torch.cat([features.mean((2, 3)), features.flatten(2).max(2).values], dim=1)
        old = (image @ model.posterior['task_0'].weight.T - 1).sigmoid()
        posterior = torch.cat([torch.tensor([[.9]] * 2), old, torch.tensor([[.05, .9]] * 2)], dim=1)
    posterior = posterior[:, :, None, None]
    if weighs == 'odds':
        torch.testing.assert_close(found.double().exp(), plain.double().exp() * posterior, rtol=1e-4, atol=1e-9)
    else:
        torch.testing.assert_close(found.sigmoid(), plain.sigmoid() * posterior)
    assert (posterior[0] != posterior[1]).any() and found.shape[1] == 5


@torch.no_grad()
def test_every_way_of_predicting_weighs_its_image():
    """Whole images, windows, and the network for other programs; losses and pseudo-labels see SSUL's logits."""
    model = tiny_model([2, 1], 'IPSeg').eval()
    images = torch.randn(1, 3, 40, 40)
    plain = model.decode_head.classify(model.trunk(images))
    for classifier in model.posterior.values():
        classifier.bias.fill_(-2.)
    weighted = model.predicted_logits(model.trunk(images))
    assert (weighted[:, 1:4] < plain[:, 1:4] - 1).any()
    full = F.interpolate(weighted, size=(40, 40), mode='bilinear')
    model.test_cfg.update(seg_logits=True)
    torch.testing.assert_close(model.predict(images)[0].seg_logits.data, full[0])
    model.test_cfg.update(mode='slide', crop_size=(40, 40), stride=(40, 40))
    torch.testing.assert_close(model.predict(images)[0].seg_logits.data, full[0])
    network = PortableNetwork(model, merge=False)
    torch.testing.assert_close(network.grid_logits(images * 60 + 120), weighted, rtol=1e-3, atol=1e-3)
    assert torch.equal(model.logits(Batch(torch.zeros(1, 40, 40), model.trunk(images))), plain)


def images_of(cfg, base, task, exemplars=False):
    """Pooled features (N, 2 d) float64, and the pixels' labels of every image of a task."""
    found = []
    for inputs, labels in samples(cfg, task, exemplars=exemplars):
        x = trunk(cfg, learned(base, 0)[0], inputs).flatten(1)
        found.append((torch.cat([x.mean(1), x.max(1).values]), labels))
    vectors, labels = zip(*found, strict=True)
    return torch.stack(vectors), labels


def plain_regression(vectors, shown, weights, decay):
    """Weights and bias that minimise a penalised cross-entropy, by Newton's method in its textbook form."""
    x = torch.cat([vectors, torch.ones_like(vectors[:, :1])], dim=1)
    penalty = torch.tensor([decay] * vectors.shape[1] + [0.], dtype=torch.double)
    w = torch.zeros(x.shape[1], dtype=torch.double)
    for _ in range(60):
        p = (x @ w).sigmoid()
        gradient = x.T @ (weights * (p - shown)) + penalty * w
        w = w - torch.linalg.solve((x.T * (weights * p * (1 - p))) @ x + penalty.diag(), gradient)
    return w[:-1], w[-1]


@pytest.mark.parametrize('memory', [0, 10])
def test_posteriors_are_plain_regressions_on_images_and_draws(tree, base, solved, tmp_path, memory):
    cfg, work_dir = solved, solved.work_dir
    if memory:
        cfg, work_dir = config(tree, tmp_path, memory=memory, **IPSEG, **NEWTON), tmp_path
        run_scenario(cfg, (1, ), start_from=base)
    first, _ = images_of(cfg, base, 0)
    own, labels = images_of(cfg, base, 1)
    moments = torch.zeros(17, 17, dtype=torch.double)
    for vector in first:
        one = torch.cat([vector, torch.ones(1, dtype=torch.double)])
        moments += one.outer(one)
    torch.testing.assert_close(learned(base, 0)[1]['image_moments'], moments, rtol=1e-4, atol=1e-3)
    drawn = draw_cells({0: learned(base, 0)[1]['image_moments']}, [1], 60, 1)
    assert not drawn.targets.any() and drawn.weights.sum().item() == pytest.approx(len(first))
    parts = [(own, torch.tensor([float((label == 19).float().mean() > 1000 / 513**2) for label in labels]),
              torch.ones(len(own))),
             (drawn.features, torch.zeros(60), drawn.weights)]
    if memory:
        exemplars, _ = images_of(cfg, base, 1, exemplars=True)
        parts.append((exemplars, torch.zeros(len(exemplars)), torch.ones(len(exemplars))))
    vectors, shown, weights = (torch.cat([part.double() for part in column]) for column in zip(*parts, strict=True))
    assert 0 < shown.sum() <= len(own) and len(own) > 4
    seen = torch.cat([first, own])
    mean, deviation = seen.mean(0), seen.std(0, correction=0)
    gain = torch.where(deviation > 1e-6 * deviation.mean(), 1 / deviation, 0.)
    weight, bias = plain_regression((vectors - mean) * gain, shown, weights, 10.)
    state, _ = learned(work_dir, 1)
    torch.testing.assert_close(state['posterior.task_1.weight'][0].double(), weight * gain, rtol=1e-3, atol=1e-4)
    assert state['posterior.task_1.bias'].item() == pytest.approx((bias - weight @ (gain * mean)).item(), rel=1e-3)


def test_old_posteriors_stay_and_the_new_one_is_of_its_own_images(base, solved):
    before, after = learned(base, 0)[0], learned(solved.work_dir, 2)[0]
    for kind in ('weight', 'bias'):
        assert torch.equal(before[f'posterior.task_0.{kind}'], after[f'posterior.task_0.{kind}'])
    assert all(after[f'posterior.task_{task}.weight'].any() for task in range(3))
    counts = [learned(solved.work_dir, task)[1]['image_moments'][-1, -1].item() for task in range(3)]
    entries = json.loads(Path(solved.work_dir, 'results.json').read_text())['tasks']
    assert counts[1] - counts[0] == entries[-2]['num_images'] and counts[2] - counts[1] == entries[-1]['num_images']


def test_all_tasks_have_one_trunk_which_test_images_pass_once(solved):
    first, second = (fixed_name(learned_network(solved, task).model, task_config(solved, task)) for task in (1, 2))
    assert first == second


@pytest.mark.parametrize('options', [{}, NEWTON], ids=['trained', 'solved'])
def test_all_else_is_learned_as_ssul_learns_it(tree, base, tmp_path, options):
    run_scenario(config(tree, tmp_path / 'ssul', **options), range(2))
    run_scenario(config(tree, tmp_path / 'ours', **IPSEG, **options), (1, ), start_from=base)
    expected, found = learned(tmp_path / 'ssul', 1)[0], learned(tmp_path / 'ours', 1)[0]
    assert {key for key in found if key not in expected} == {
        f'posterior.task_{task}.{kind}' for task in range(2) for kind in ('weight', 'bias')}
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@torch.no_grad()
def test_predictions_are_the_largest_products(tree, solved):
    state, _ = learned(solved.work_dir, 2)
    image = sorted((tree / 'JPEGImages').glob('*.jpg'))[3]
    prediction = Predictor(solved, 2).predict(image)
    pixels = torch.from_numpy(prediction.pixels.copy()).permute(2, 0, 1)[None].double()
    mean, deviation = (torch.tensor(solved.model.data_preprocessor[key]).view(1, 3, 1, 1) for key in ('mean', 'std'))
    x = trunk(solved, learned(solved.work_dir, 0)[0], ((pixels - mean) / deviation).float())
    names = ['background', 'task_0', 'task_1', 'task_2', 'unknown']
    weight, bias = (torch.cat([state[f'decode_head.classifiers.{name}.0.{kind}'].double() for name in names])
                    for kind in ('weight', 'bias'))
    vector = torch.cat([x.flatten(1).mean(1), x.flatten(1).max(1).values])
    posterior = torch.cat([(state[f'posterior.{name}.weight'].double() @ vector
                            + state[f'posterior.{name}.bias']).sigmoid() for name in names[1:-1]]).clamp(min=.05)
    posterior = torch.cat([torch.tensor([.5]), posterior, torch.tensor([.5])])
    scores = (weight.flatten(1) @ x.flatten(1) + bias[:, None]).exp() * posterior[:, None]
    grid = scores.log().view(1, -1, *x.shape[1:])
    plain = F.interpolate(grid, prediction.labels.shape, mode='bilinear')[0].argmax(0)
    plain[plain == len(grid[0]) - 1] = 0
    shown = torch.from_numpy(prediction.labels).long()
    assert ((plain == shown) | (shown > 20)).double().mean() > .999
    final = json.loads(Path(solved.work_dir, 'results.json').read_text())['final']['all']
    assert evaluate_task(Run(solved), 2)['mIoU_all'] == pytest.approx(final, abs=1e-6)


def test_a_class_that_all_images_show_keeps_its_scores(tmp_path):
    """The base task has one class, so that its images say nothing of images without it."""
    tree = voc_tree(tmp_path / 'voc', 24)
    run_scenario(config(tree, tmp_path / 'run', **IPSEG, **{'scenario.name': '1-19'}), range(2))
    (before, _), (after, _) = learned(tmp_path / 'run', 0), learned(tmp_path / 'run', 1)
    for state in (before, after):
        assert not state['posterior.task_0.weight'].any() and state['posterior.task_0.bias'].tolist() == [CERTAIN]
    assert after['posterior.task_1.weight'].any(1).all()


def test_two_processes_equal_one(tree, base, tmp_path):
    assert_two_processes_equal_one(tree, base, tmp_path, {**IPSEG, **NEWTON})


def test_a_base_task_of_ssul_is_refused(tree, tmp_path):
    run_scenario(config(tree, tmp_path / 'ssul'), range(1))
    with pytest.raises(InputError, match='no means of images; train task 0 with this config'):
        run_scenario(config(tree, with_task_0(tmp_path / 'ssul', tmp_path / 'ours'), **IPSEG), (1, ))


def test_features_that_are_not_finite_are_one_sentence(tree, base, tmp_path):
    broken = change_weights(base, tmp_path / 'base', lambda state: state['backbone.conv1.weight'].fill_(float('nan')))
    with pytest.raises(InputError, match='NaN or infinite'):
        run_scenario(config(tree, tmp_path / 'run', **IPSEG, **NEWTON), (1, ), start_from=broken)
    assert not (tmp_path / 'run/task_1/weights.pth').exists()


@pytest.mark.parametrize(('options', 'message'), [
    (dict(weighs='logits'), r"model\.weighs is 'logits'; choose one of odds, scores"),
    (dict(background=0), r'model\.background is 0; it is a number above 0, at most 1'),
    (dict(floor=2.), r'model\.floor is 2\.0'),
    (dict(image_decay=0), r'model\.image_decay is 0'),
    (dict(image_draws=.5), r'model\.image_draws is 0\.5'),
    (dict(freeze=False), r'set model\.freeze=True'),
    (dict(head=dict(loss_decode=dict(type='SoftmaxCELoss'))), r'loss_decode\.type=SigmoidBCELoss'),
], ids=str)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        tiny_model([3], 'IPSeg', **options)
