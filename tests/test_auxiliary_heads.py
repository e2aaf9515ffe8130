"""Auxiliary heads help a trunk to learn: in task 0, and later wherever the trunk still learns."""
import pytest
import torch
from mmseg.registry import MODELS
from tiny import RESNET, network_run, samples_of, started

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.work_dir.weights import load_state

NORM = dict(type='BN')
DECODE = dict(type='IncrementalFCNHead', in_channels=32, in_index=3, channels=8, num_convs=1, norm_cfg=NORM,
              dropout_ratio=0)
# mmseg's usual weight, on earlier stages.
AUXILIARY = [dict(type='IncrementalFCNHead', in_channels=channels, in_index=stage, channels=4, num_convs=1,
                  concat_input=False, norm_cfg=NORM, dropout_ratio=0, loss_decode=loss)
             for stage, channels, loss in ((2, 16, dict(type='CrossEntropyLoss', loss_weight=.4)),
                                           (1, 8, dict(type='SigmoidBCELoss')))]
# By number of auxiliary heads: the config's value, and the heads' names in a state dict.
SETS = {'one': (AUXILIARY[0], ['auxiliary_head']), 'two': (AUXILIARY, ['auxiliary_head.0', 'auxiliary_head.1'])}


def network(number):
    return dict(backbone=RESNET, decode_head=DECODE, auxiliary_head=SETS[number][0])


def build(number, classes_per_task, model_type='SSUL', **options):
    heads = SETS[number][0]
    several = [dict(head, classes_per_task=classes_per_task) for head in (heads if number == 'two' else [heads])]
    torch.manual_seed(len(classes_per_task))
    return MODELS.build(dict(
        type=model_type, backbone=RESNET, decode_head=dict(DECODE, classes_per_task=classes_per_task),
        auxiliary_head=several if number == 'two' else several[0], **options))


def batch():
    torch.manual_seed(0)
    return torch.randn(2, 3, 32, 32), torch.randint(0, 6, (2, 32, 32), dtype=torch.uint8)


def learning(model, inputs, labels):
    """Prefixes of the parameters that a batch gives a gradient."""
    model.zero_grad()
    sum(value for key, value in model.train().loss(inputs, samples_of(labels)).items() if 'loss' in key).backward()
    return {key for key, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()}


@pytest.mark.parametrize('number', SETS)
def test_their_losses_stand_beside_the_decode_heads_and_are_those_of_mmseg(number):
    model, (inputs, labels) = build(number, [3, 2], 'FineTuning'), batch()
    found = model.loss(inputs, samples_of(labels))
    second = {'aux_1.loss_bce'} if number == 'two' else set()
    assert set(found) == {'loss_bce', 'aux_0.loss_ce', 'aux_0.acc_seg', *second}
    maps = model.extract_feat(inputs)
    for place, head in enumerate(model.heads[1:]):
        expected = head.loss(maps, samples_of(labels.long()), None)
        name = f'loss_{"bce" if place else "ce"}'
        torch.testing.assert_close(found[f'aux_{place}.{name}'], expected[name])


@pytest.mark.parametrize('number', SETS)
def test_all_of_them_start_with_small_filters(number):
    model = build(number, [50])
    model.init_weights()
    for head in model.heads:
        last = head.classifiers['task_0'][-1]
        assert .008 < last.weight.std() < .012 and not last.bias.any()


@pytest.mark.parametrize('number', SETS)
def test_they_learn_as_long_as_the_trunk_does(number):
    prefixes, (inputs, labels) = tuple(SETS[number][1]), batch()
    old = build(number, [3])
    parts = {key for key, _ in old.named_parameters() if key.startswith(prefixes)}
    assert parts <= learning(old, inputs, labels.clamp(max=3))
    later = started(build(number, [3, 2], freeze=False), old)
    assert {key for key, _ in later.named_parameters() if key.startswith(prefixes)} <= learning(later, inputs, labels)
    frozen = started(build(number, [3, 2]), old)
    assert learning(frozen, inputs, labels) == {
        f'decode_head.classifiers.{name}.0.{kind}' for name in ('background', 'task_1', 'unknown')
        for kind in ('weight', 'bias')}
    assert not any(module.training for head in frozen.heads[1:] for module in head.modules())
    assert set(frozen.loss(inputs, samples_of(labels))) == {'loss_bce'}


@pytest.mark.parametrize('number', SETS)
def test_a_task_starts_from_their_old_weights_and_new_classifiers_of_their_own(number):
    old = build(number, [3])
    for prefix, head in zip(SETS[number][1], started(build(number, [3, 2], freeze=False), old).heads[1:], strict=True):
        state = {f'{prefix}.{key}': value for key, value in head.state_dict().items()}
        new = {f'{prefix}.classifiers.task_1.0.{kind}' for kind in ('weight', 'bias')}
        assert {key for key in state if key not in old.state_dict()} == new
        assert all(torch.equal(state[key], old.state_dict()[key]) for key in state if key not in new)
        assert .002 < state[f'{prefix}.classifiers.task_1.0.weight'].std() < .02
        assert not state[f'{prefix}.classifiers.task_1.0.bias'].any()


@pytest.mark.parametrize('freeze', [True, False], ids=['frozen later', 'learning on'])
@pytest.mark.parametrize('number', SETS)
def test_two_tasks_hand_them_on(tmp_path, number, freeze):
    run_scenario(network_run(tmp_path, network(number), **{'model.freeze': freeze, 'feature_cache.views': 1}))
    base, later = (load_state(tmp_path / f'work/task_{task}/weights.pth')['state_dict'] for task in (0, 1))
    prefixes = SETS[number][1]
    new = {f'{prefix}.classifiers.task_1.0.{kind}' for prefix in ('decode_head', *prefixes)
           for kind in ('weight', 'bias')}
    assert set(later) - set(base) == new and set(base) < set(later)
    for prefix in prefixes:
        assert base[f'{prefix}.convs.0.bn.num_batches_tracked'] == 10
        moved = {key for key in base if key.startswith(prefix) and not torch.equal(base[key], later[key])}
        own = {key for key in base if key.startswith(prefix)}
        assert moved == (set() if freeze else own)
        assert base[f'{prefix}.classifiers.task_0.0.bias'].any()


def test_heads_of_other_channels_are_refused():
    wrong = dict(AUXILIARY[1], classes_per_task=[3], unknown=False)
    with pytest.raises(InputError, match='give both the same value of unknown'):
        MODELS.build(dict(type='SSUL', backbone=RESNET, decode_head=dict(DECODE, classes_per_task=[3]),
                          auxiliary_head=wrong))
