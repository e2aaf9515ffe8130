"""PLOP against hand-computed values, and in two tasks."""
import math

import pytest
import torch
import torch.multiprocessing
import torch.nn.functional as F
from tiny import samples_of, started, tiny_config, tiny_model, voc_tree

from ssul_mmseg.engine.launch import leave_processes
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.runner import task_runner
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.methods.plop import kept_share
from ssul_mmseg.models.entropy import histogram_median, uncertainty
from ssul_mmseg.models.losses import IGNORED
from ssul_mmseg.models.pod import fold_new_channels, local_pod, pod_distance, watch_stages
from ssul_mmseg.scenario import IGNORE

SOFTMAX = dict(unknown=False, loss_decode=dict(type='SoftmaxCELoss'))


def second_task(head=SOFTMAX, **options):
    old = tiny_model([3], 'PLOP', head)
    model = started(tiny_model([3, 2], 'PLOP', head, **options), old)
    return model, old.eval()


def test_share_of_background_that_is_kept():
    background, target = torch.zeros(2, 3, 4, dtype=torch.bool), torch.ones(2, 3, 4, dtype=torch.long)
    background[0].view(-1)[:10] = True
    target[0].view(-1)[7:] = IGNORED  # two of them are no background
    assert kept_share(background, target).tolist() == pytest.approx([.69999993, 0.], abs=1e-8)


@pytest.mark.parametrize('entropy', ['code', 'normalised'])
def test_background_takes_the_old_networks_labels_where_it_is_sure(entropy):
    model, old = second_task(entropy=entropy)
    inputs, labels = torch.randn(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.uint8)
    labels[:, :8], labels[:, 8:12], labels[:, 12:16] = 5, IGNORE, 2  # the last as an exemplar shows it
    with torch.no_grad():
        logits = F.interpolate(old.decode_head.classify(old.trunk(inputs)), size=(32, 32), mode='bilinear')
    p = logits.softmax(1)
    total = -(p * (p + 1e-8).log()).sum(1) / math.log(4)
    u = total if entropy == 'normalised' else total / 4 / math.log(6)
    likeliest = p.argmax(1)
    # No pixel's own value: it would lie above or below, as it is rounded.
    model.thresholds = u.median() * torch.tensor([1.001, .99, 1.01, .999])
    pseudo = likeliest.masked_fill(u >= model.thresholds[likeliest], IGNORED)
    expected = torch.where(labels == 0, pseudo, torch.where(labels == IGNORE, IGNORED, labels.long()))
    target = model.targets(model.batch_of(inputs, labels))
    assert torch.equal(target, expected)
    assert IGNORED in target[:, 16:] and (target[:, 16:] >= 0).any()


@pytest.mark.parametrize('skip', [False, True], ids=['', 'skip'])
@pytest.mark.parametrize('options', [{}, {'freeze_backbone': True}], ids=['all learns', 'frozen backbone'])
def test_losses_of_a_later_task(options, skip):
    model, old = second_task(dict(SOFTMAX, skip=skip), pod_weight=.3, logits_weight=.2, **options)
    inputs, labels = torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.uint8)
    labels[:, :8], labels[:, 8:12] = 5, IGNORE
    with torch.no_grad():
        unsure = uncertainty(old.decode_head.classify(old.trunk(inputs)).softmax(1), 'code', 6)
        model.thresholds = unsure.median().expand(4)
        target = model.targets(model.batch_of(inputs, labels))
    losses = model.loss(inputs, samples_of(labels))
    assert not model._stages  # nothing holds the graph until the next batch
    layers = []
    for network in (model, old):
        with watch_stages(network.backbone, local_pod) as stages:
            features = network.trunk(inputs)
        logits = network.decode_head.classify(features)
        layers.append([*stages.values(), local_pod(features[:, :8]), local_pod(fold_new_channels(logits, 4))])
        if network is model:
            full = F.interpolate(logits, size=(64, 64), mode='bilinear')
    ce = F.cross_entropy(full, target, ignore_index=IGNORED, reduction='none')
    background = labels == 0
    share = (background & (target != IGNORED)).sum((1, 2)) / background.sum((1, 2))
    assert 0 < share.min() < 1
    torch.testing.assert_close(losses['loss_ce'], (ce.mean((1, 2)) * share).mean())
    each = [pod_distance(a, b) for a, b in zip(*layers, strict=True)]
    assert len(each) == 6 and [bool(distance) for distance in each] == [not options] * 4 + [True] * 2
    torch.testing.assert_close(losses['loss_pod'], math.sqrt(6 / 2) / 6 * (.3 * sum(each[:5]) + .2 * each[5]))
    if options:
        torch.testing.assert_close(model(*model.keep(inputs, labels), mode='kept'), losses)
    sum(losses.values()).backward()
    assert all(p.grad.any() for p in model.parameters() if p.requires_grad)


def test_vectors_alone_are_kept_of_the_old_network():
    model, _ = second_task()
    batch = model.batch_of(torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.uint8))
    old = dict(batch.old)
    assert old.pop('old logits').shape == (2, 4, 4, 4)
    assert {name: value.dim() for name, value in old.items()} == dict.fromkeys(
        ['layer1', 'layer2', 'layer3', 'layer4', 'features', 'logits'], 2)


@pytest.mark.parametrize('options', [
    {}, {'median': 'exact', 'entropy': 'normalised'}, {'freeze_backbone': True}],
    ids=['code', 'paper', 'frozen backbone'])
def test_thresholds_are_medians_over_the_training_images(tmp_path, options):
    tree = voc_tree(tmp_path / 'voc', 24)
    cfg = tiny_config(tree, tmp_path / 'work', 'configs/plop/voc_15-1.py', **{
        'scenario.name': '15-5', 'train_cfg.max_epochs': 1,
        **{f'model.{key}': value for key, value in options.items()}})
    run_scenario(cfg, range(1))
    run = Run(cfg)
    runner = task_runner(run, task_config(cfg, 1), 1)
    model = runner.model
    model.freeze()
    runner._init_model_weights()
    model.before_training(runner.train_dataloader)
    found = [[] for _ in range(16)]
    for loaded in runner.train_dataloader:
        data = model.data_preprocessor(loaded, True)
        with torch.no_grad():
            network = model.old_model.network
            logits = network.decode_head.classify(network.trunk(data['inputs']))
        p = F.interpolate(logits, size=(24, 24), mode='bilinear').softmax(1)
        u = uncertainty(p, options.get('entropy', 'code'), 21)
        background = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']]) == 0
        for value, label in zip(u[background].tolist(), p.argmax(1)[background].tolist(), strict=True):
            found[label].append(value)
    assert sum(map(len, found)) > 500 and min(map(len, found)) == 0
    for values, threshold in zip(found, model.thresholds.tolist(), strict=True):
        counts = torch.tensor([int(v * 100) for v in values], dtype=torch.long).bincount(minlength=100)
        median = histogram_median(counts, 'median' in options)
        assert threshold == pytest.approx(max(median, .001), abs=.0101 if values else 1e-9) or math.isinf(threshold)
        if 'median' in options and values:
            assert threshold == pytest.approx(sorted(values)[len(values) // 2], abs=.0201)
    if 'freeze_backbone' in options:
        assert run_scenario(cfg, range(1, 2))['final']['all'] >= 0


def thresholds(images):
    """Exact medians of the paper's entropy over some images of noise."""
    model, _ = second_task(median='exact', entropy='normalised')
    model.data_preprocessor.size = (32, 32)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (4, 3, 32, 32), generator=generator, dtype=torch.uint8)
    samples = samples_of(torch.zeros(4, 32, 32, dtype=torch.uint8))
    model.before_training([dict(inputs=[inputs[i]], data_samples=[samples[i]]) for i in images])
    return model.thresholds


def put_thresholds(rank, folder, queue):
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    queue.put((rank, thresholds([2 * rank, 2 * rank + 1]).tolist()))
    leave_processes()


def test_processes_find_the_thresholds_of_all_their_images(tmp_path):
    queue = torch.multiprocessing.get_context('spawn').SimpleQueue()
    torch.multiprocessing.spawn(put_thresholds, (str(tmp_path), queue), nprocs=2)
    assert dict(queue.get() for _ in range(2)) == dict.fromkeys(range(2), thresholds(range(4)).tolist())
    assert thresholds(range(2)).tolist() != thresholds(range(4)).tolist()


def test_other_options_are_refused():
    for options, message in [
            (dict(median='mean'), r"model\.median is 'mean'; choose one of code, exact"),
            (dict(entropy='sum'), r"model\.entropy is 'sum'; choose one of code, normalised"),
            (dict(pod_weight=-1), r'model\.pod_weight is -1; it is at least 0 and finite, as published 0\.01'),
            (dict(logits_weight=-1), r'model\.logits_weight is -1')]:
        with pytest.raises(InputError, match=message):
            tiny_model([3], 'PLOP', SOFTMAX, **options)
