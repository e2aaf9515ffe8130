"""The benchmark compares equals, and its document says what it should."""
import importlib.util
import json
import math

import numpy as np
import pytest
import torch
from speed import NAMES
from speed.data import simulate_index, write_masks
from speed.measure import peak_memory, time_in_turns
from speed.networks import build_ssul, count_survivors, random_batch, start_ssul
from speed.reference import PlainSSUL, build_reference, fast_loss, fast_targets
from speed.report import markdown
from speed.settings import TINY, Options
from speed.suite import BENCHMARKS, run_benchmarks
from speed.task import visits
from tiny import ROOT, samples_of

from ssul_mmseg.datasets.class_index import ClassIndex
from ssul_mmseg.datasets.masks import read_mask
from ssul_mmseg.errors import InputError
from ssul_mmseg.models.losses import IGNORED
from ssul_mmseg.scenario import UNKNOWN

OPTIONS = Options(ROOT / 'configs', TINY, 'cpu')
HERE = [name for name in NAMES if name not in ('shell', 'methods')]
"""The others have files of tests of their own."""


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('benchmark_tool', ROOT / 'tools' / 'benchmark.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def document(tmp_path_factory):
    out = tmp_path_factory.mktemp('benchmark')
    run_benchmarks(HERE, OPTIONS, out)
    return json.loads((out / 'benchmark.json').read_text()), (out / 'benchmark.md').read_text()


@pytest.mark.parametrize('classes', [(6, 1), (4, 2, 2), (300, 1)])
def test_the_reference_and_the_fast_formulation_give_the_same_update(classes):
    batch = random_batch(OPTIONS)
    model = start_ssul(OPTIONS, classes, 3, batch)
    old = build_ssul(OPTIONS, classes[:-1])
    old.load_state_dict({key: value for key, value in model.state_dict().items() if key in old.state_dict()})
    plain = PlainSSUL(model, old)
    with torch.no_grad():  # as after some training: background and unknown are no longer the old ones
        for name in ('background', 'unknown'):
            model.decode_head.classifiers[name][-1].weight.add_(.3)
    targets = fast_targets(model, model.batch_of(batch.inputs, batch.labels), batch)
    valid = targets != IGNORED
    assert torch.equal(targets[valid], plain.targets(batch)[valid])
    pseudo = (targets >= 1) & (targets <= sum(classes[:-1]))
    assert .01 < pseudo.float().mean() < .9
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ours = torch.autograd.grad(fast_loss(model, batch), learning)
    expected = torch.autograd.grad(plain.loss(batch), learning)
    assert sum(gradient.abs().sum() for gradient in expected) > 1e-3
    for found, gradient in zip(ours, expected, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-5)


def test_the_measured_loss_is_that_of_training():
    batch = random_batch(OPTIONS)
    model = start_ssul(OPTIONS, (6, 1), 3, batch)
    labels = batch.labels.masked_fill(batch.new, 7)
    torch.testing.assert_close(fast_loss(model, batch), model.loss(batch.inputs, samples_of(labels))['loss_bce'])


def test_the_reference_of_the_authors_classifier_learns_what_ours_learns():
    plain = build_reference(OPTIONS, (4, 2, 2), same_network=False)
    assert len(plain.network.decode_head.classifiers['task_1']) == 2
    learning = {name.split('.')[2] for name, p in plain.network.named_parameters() if p.requires_grad}
    assert learning == {'background', 'task_2', 'unknown'} and not any(p.requires_grad for p in plain.old.parameters())
    before = {key: value.clone() for key, value in plain.old.state_dict().items()}
    plain.loss(random_batch(OPTIONS)).backward()
    assert all(torch.equal(value, before[key]) for key, value in plain.old.state_dict().items())


@pytest.mark.parametrize('survivors', [0, 3, 15])
def test_the_stated_number_of_old_classes_survives(survivors):
    batch = random_batch(OPTIONS)
    assert count_survivors(start_ssul(OPTIONS, (10, 5, 1), survivors, batch), batch) == [survivors] * TINY.batch


def test_a_batch_shows_every_kind_of_label():
    batch = random_batch(OPTIONS)
    assert set(batch.labels.unique().tolist()) == {0, UNKNOWN, 255}
    assert batch.new.any() and not batch.labels[batch.new].any()


def test_visits_by_hand():
    """487 images, batch 32: 15 iterations an epoch, 50 x 15 x 32 visits, of which 487 x 5 are the first of a view."""
    # The cache is filled by five epochs of 15 groups, then by a group in each of the next five epochs, which bring the
    # seven images that the epoch of their view left out.
    assert visits(487, 50, 32, 5) == (24_000, 2435, (5 * 15 + 5) * 32)
    # Ten images fill 32 places in four passes over them.
    assert visits(10, 1, 32, 4) == (32, 32, 32)


def test_variants_take_turns():
    order = []
    times = time_in_turns({'a': lambda: order.append('a'), 'b': lambda: order.append('b')},
                        Options(ROOT, TINY.__class__(**{**vars(TINY), 'repetitions': 3}), 'cpu'), 'turns')
    assert order == ['a', 'b'] + ['a', 'b'] * 3
    assert all(t['min'] <= t['median'] <= t['max'] for t in times.values())


def _allocating(megabytes):
    return lambda: np.ones(megabytes << 20, dtype=np.uint8).sum()


def test_peak_memory_is_that_of_the_run():
    peak = peak_memory(_allocating, 200)
    # Linux counts resident pages per processor and adds them up in lots (proc(5) calls VmRSS inaccurate): a few hundred
    # pages may be missing at either reading. 1 MiB is 256 of them.
    assert peak is None or 199 << 20 <= peak < 260 << 20


def test_generated_masks_and_the_simulated_index(tmp_path):
    mask = read_mask(write_masks(tmp_path, 2)[1])
    assert mask.shape == (375, 500) and mask.max() == 255 and 1 <= len(np.unique(mask[(mask > 0) & (mask < 255)])) <= 2
    index = simulate_index(100)
    assert len(index) == 100 and index.num_values == 1001 and 1 <= len(index.values(7)) <= 4
    assert isinstance(index, ClassIndex)


def test_the_document_has_every_number(document):
    content, _ = document
    assert set(content) >= {'machine', 'options', 'definitions', *HERE}
    for setting, num_old in (('voc_15-1_task1', 15), ('ade_100-5_task10', 145)):
        found = content['step'][setting]
        assert found['survivors_per_image'] == [3 if num_old == 15 else 8] * 2
        assert found['survivors_per_image_worst_case'] == [num_old] * 2
        for key in ('ratio_vs_reference', 'ratio_vs_reference_same_network', 'ratio_vs_trunk', 'peak_memory_ratio'):
            assert found[key] > 0
        assert math.isclose(
            found['ratio_vs_trunk'], found['seconds']['ours']['median'] / found['seconds']['trunk']['median'])
    assert len(content['step']['ade_100-5_task10']['classes_per_task']) == 11
    assert content['growth']['ratio_1000_vs_10'] > 0
    task = content['task']['voc_15-1_task1']
    assert task['speedup_cached'] > 0 and task['speedup_uncached'] > 0
    cached, first = (task['seconds_per_iteration'][key]['median'] / 2 for key in ('cached', 'first_visit'))
    assert math.isclose(task['seconds_per_task']['cached'], task['trunk_passes'] * first + 24_000 * cached)
    for method in ('newton', 'analytic'):
        passed, solution = task['seconds_per_iteration']['pass_to_cells'], task['seconds_of_solution'][method]
        assert math.isclose(task['seconds_per_task'][method], 487 * passed['median'] / 2 + solution['median'])
        grown = task['solution']['growth']
        few, many = (grown['seconds'][method][case]['median'] for case in ('10', '1000'))
        assert math.isclose(grown['ratio'][method], many / few)
        memory = task['solution']['memory_bytes'][method]
        assert memory['peak'] > 0 and memory['added'] == memory['peak'] - memory['before']
    assert task['solution']['cells'] == 487 * 25 and task['solution']['newton_steps'] > 1
    assert len(task['targets']) == 10
    speed = content['base']['images_per_second']
    assert math.isclose(content['base']['ratio_vs_mmseg'], speed['mmseg'] / speed['ours'])
    assert content['evaluate']['speedup_cached'] > 0
    assert content['index']['simulated']['values'] == 1001


def test_the_markdown_tells_what_was_measured(document):
    content, text = document
    assert text == markdown(content)
    for name in HERE:
        assert f'\n## {name}\n' in text
    assert '145 old classes in 10 tasks, 5 new; 8, 8 old classes an image exceed tau (145, 145 in the worst' in text
    assert 'Extrapolated from iterations of batch 2' in text
    assert '| reference_same_network |' in text


def test_only_what_was_asked_for_is_reported(tmp_path):
    document = run_benchmarks(['evaluate'], OPTIONS, tmp_path)
    assert 'step' not in document and '## step' not in markdown(document)


def test_a_folder_that_cannot_be_written_is_reported_before_anything_is_measured(tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='cannot write'):
        run_benchmarks(['evaluate'], OPTIONS, tmp_path / 'file')
    assert 'evaluate' not in capsys.readouterr().err


@pytest.mark.parametrize('amp', ['bf16', 'fp16'])
def test_mixed_precision(amp, tmp_path):
    options = Options(ROOT / 'configs', TINY, 'cpu', amp)
    assert run_benchmarks(['task', 'base'], options, tmp_path)['options']['amp'] == amp


def test_every_benchmark_has_a_name():
    assert tuple(BENCHMARKS) == NAMES


def test_wrong_names_end_with_code_2(tool, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        tool.main(['step', 'speed', '--out', str(tmp_path)])
    assert end.value.code == 2 and 'speed' in capsys.readouterr().err
    with pytest.raises(InputError, match='speed'):
        run_benchmarks(['speed'], OPTIONS, tmp_path)
    with pytest.raises(InputError, match='--batch'):
        tool.main(['step', '--batch', '1', '--out', str(tmp_path)])
    with pytest.raises(InputError, match='amp'):
        Options(ROOT / 'configs', TINY, 'cpu', 'int8')
    with pytest.raises(InputError, match='checkout'):
        random_batch(OPTIONS)
        build_ssul(Options(tmp_path, TINY, 'cpu'), (3, 1))
    assert not list(tmp_path.iterdir())
