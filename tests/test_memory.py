import json
import re
import shutil
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from tiny import tiny_config, voc_tree

from ssul_mmseg.datasets import memory as memory_module
from ssul_mmseg.datasets.memory import ExemplarMemory
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError

NAMES = ['background', *(f'class {i}' for i in range(1, 30))]


@pytest.fixture
def messages(monkeypatch):
    printed = []
    monkeypatch.setattr(memory_module, 'print_log', lambda message, **_: printed.append(message))
    return printed


def images(label, count):
    return {label: [f'{label}_{i}.jpg' for i in range(count)]}


def per_label(memory):
    counts = {}
    for exemplar in memory.exemplars:
        counts[exemplar.label] = counts.get(exemplar.label, 0) + 1
    return counts


def test_balanced_memory_shrinks_evenly():
    memory = ExemplarMemory(12).update({**images(1, 50), **images(2, 50), **images(3, 50)}, task=0, seed=0)
    assert per_label(memory) == {1: 4, 2: 4, 3: 4}
    first = {exemplar.image for exemplar in memory.exemplars}
    memory = memory.update(images(4, 50), task=1, seed=0)
    assert per_label(memory) == {1: 3, 2: 3, 3: 3, 4: 3}
    assert {exemplar.image for exemplar in memory.exemplars if exemplar.label < 4} < first
    assert memory.images_seen == 200


def test_every_class_has_an_exemplar_when_one_is_rare():
    crowd = [f'{i}.jpg' for i in range(100)]
    memory = ExemplarMemory(3).update({1: crowd, 2: crowd[:40], 3: ['7.jpg']}, task=0, seed=3)
    assert per_label(memory) == {1: 1, 2: 1, 3: 1}
    assert memory.shortage(range(1, 4)) is None


def test_fewer_places_than_classes_go_to_the_newest():
    memory = ExemplarMemory(2).update({**images(1, 9), **images(2, 7), **images(3, 8)}, task=0, seed=0)
    assert per_label(memory) == {2: 1, 3: 1}  # the rarest of the task
    for task, (new, expected) in enumerate([({**images(4, 50)}, {3, 4}), ({**images(5, 1)}, {4, 5}), ({}, {4, 5}),
                                            ({**images(6, 5), **images(7, 9), **images(8, 3)}, {6, 8})], start=1):
        memory = memory.update(new, task, seed=0)
        assert set(per_label(memory)) == expected


def test_a_place_that_a_new_class_cannot_take_goes_to_the_next():
    """Both new classes are in one image alone."""
    memory = ExemplarMemory(2).update({**images(1, 9), **images(2, 9), **images(3, 9)}, task=0, seed=0)
    memory = memory.update({4: ['a.jpg'], 5: ['a.jpg']}, task=1, seed=0)
    assert [(e.image, e.labels) for e in memory.exemplars if e.task == 1] == [('a.jpg', (4, 5))]
    assert len(memory.exemplars) == 2


def test_a_smaller_memory_is_chosen_from_the_manifest(messages):
    whole = ExemplarMemory(9).update({**images(1, 50), **images(2, 50), **images(3, 50)}, task=0, seed=0)
    small = whole.resize(3, 'class_balanced', 'memory.json')
    assert per_label(small) == {1: 1, 2: 1, 3: 1} and small.size == 3
    assert {e.image for e in small.exemplars} < {e.image for e in whole.exemplars}
    assert whole.resize(2, 'class_balanced', 'm').exemplars == [e for e in small.exemplars if e.label > 1]
    assert re.search('memory.json was chosen for memory.size=9, .* 3 now: 3 of its 9 exemplars are rep', messages[0])
    # What was not replayed is not kept either.
    after = replace(whole, size=3).update(images(4, 1), task=1, seed=0)
    assert {e.image for e in after.exemplars} < {e.image for e in small.exemplars} | {'4_0.jpg'}
    part = ExemplarMemory(9, 'random').update(images(1, 50), 0, 0)
    assert part.resize(4, 'random', '').exemplars == part.resize(4, 'random', '').exemplars
    assert len(part.resize(4, 'random', '').exemplars) == 4


def test_a_memory_that_lacks_images_is_that_of_every_larger_size_and_a_full_one_is_not(messages):
    few = ExemplarMemory(9).update(images(1, 5), task=0, seed=0)
    assert few.resize(12, 'class_balanced', '').exemplars == few.exemplars
    assert few.resize(5, 'class_balanced', '').exemplars == few.exemplars and not messages
    full = ExemplarMemory(5).update(images(1, 9), task=0, seed=0)
    assert full.resize(6, 'class_balanced', 'memory.json').exemplars == full.exemplars
    assert re.search('memory.size=5, but memory.size is 6 now: 5 of its 5', messages.pop())
    with pytest.raises(InputError, match=r'chosen for memory\.selection=class_balanced, but this run has random'):
        full.resize(5, 'random', 'memory.json')


def test_an_exemplar_knows_its_labelled_classes():
    memory = ExemplarMemory(1).update({1: ['a.jpg'], 2: ['a.jpg']}, task=0, seed=0)
    assert memory.exemplars[0].labels == (1, 2)


def test_an_image_found_again_keeps_the_labels_that_it_had():
    memory = ExemplarMemory(2).update({1: ['a.jpg'], 2: ['a.jpg', 'b.jpg']}, task=0, seed=0)
    memory = memory.update({3: ['a.jpg']}, task=1, seed=0)
    assert {e.image: (e.task, e.labels) for e in memory.exemplars} == {'a.jpg': (1, (1, 2, 3)), 'b.jpg': (0, (2, ))}
    assert memory.shortage(range(1, 4)) is None
    again = ExemplarMemory(1).update({1: ['a.jpg']}, task=0, seed=0).update({2: ['a.jpg']}, task=1, seed=0)
    assert again.exemplars[0].labels == (1, 2)


def test_too_few_images_end_with_a_warning():
    memory = ExemplarMemory(100).update(images(1, 7), task=0, seed=0)
    assert len(memory.exemplars) == 7 and '7 images, not 100' in memory.shortage(range(1, 2))
    memory = ExemplarMemory(1).update({**images(1, 5), **images(2, 5)}, task=0, seed=0)
    assert len(memory.exemplars) == 1 and 'no exemplar of 1 of the 2 classes' in memory.shortage(range(1, 3))


def test_random_memory_is_as_large_and_uniform_over_time():
    memory = ExemplarMemory(20, 'random').update(images(1, 300), task=0, seed=0)
    memory = memory.update(images(2, 100), task=1, seed=0)
    assert per_label(memory) == {1: 15, 2: 5}


def test_the_choice_is_a_function_of_seed_and_task():
    def choose(seed, task):
        return ExemplarMemory(5).update(images(1, 50), task, seed).exemplars
    assert choose(0, 1) == choose(0, 1) != choose(1, 1)
    assert [e.image for e in choose(0, 1)] != [e.image for e in choose(0, 2)]


@settings(max_examples=60)
@given(st.integers(1, 12), st.lists(st.integers(0, 30), min_size=1, max_size=6),
       st.sampled_from(['class_balanced', 'random']), st.integers(0, 99))
def test_size_and_uniqueness_hold_for_any_tasks(size, counts, selection, seed):
    memory = ExemplarMemory(size, selection)
    available = 0
    for task, count in enumerate(counts):
        # Images repeat among tasks, as in the overlapped setting.
        memory = memory.update({task + 1: [f'{i}.jpg' for i in range(task, task + count)]}, task, seed)
        available = len({f'{i}' for t, c in enumerate(counts[:task + 1]) for i in range(t, t + c)})
        kept = [exemplar.image for exemplar in memory.exemplars]
        assert len(set(kept)) == len(kept) <= min(size, available)
        assert all(exemplar.label <= task + 1 for exemplar in memory.exemplars)


def test_a_run_that_starts_from_a_task_of_a_larger_memory_replays_its_own_size(tmp_path, messages):
    """And of the two places of the memory the new class gets one."""
    tree = voc_tree(tmp_path / 'voc', 24)
    cfg, small = (tiny_config(tree, tmp_path / f'{size}', 'configs/ssul/voc_15-1_m.py', **{
        'scenario.name': '19-1', 'train_cfg.max_epochs': 1, 'memory.size': size}) for size in (8, 2))
    run_scenario(cfg, range(1))
    shutil.copytree(tmp_path / '8/task_0', tmp_path / '2/task_0')
    document = run_scenario(small, range(1, 2))
    assert document['tasks'][1]['memory'] == 2
    assert sum('memory.size is 2 now: 2 of its 8 exemplars are replayed' in message for message in messages) == 1
    kept = ExemplarMemory.read(tmp_path / '2/task_1/memory.json')
    shared = ExemplarMemory.read(tmp_path / '2/task_0/memory.json')
    assert shared.size == 8
    assert [exemplar.label for exemplar in kept.exemplars] == [max(e.label for e in shared.exemplars), 20]
    random = tiny_config(tree, tmp_path / '2', 'configs/ssul/voc_15-1_m.py', **{
        'scenario.name': '19-1', 'train_cfg.max_epochs': 1, 'memory.size': 8, 'memory.selection': 'random'})
    random.work_dir = str(tmp_path / 'random')
    shutil.copytree(tmp_path / '8/task_0', tmp_path / 'random/task_0')
    with pytest.raises(InputError, match=r'task_0/memory\.json was chosen for memory\.selection=class_balanced'):
        run_scenario(random, range(1, 2))


def test_manifest_round_trip(tmp_path):
    memory = ExemplarMemory(4).update({**images(1, 9), **images(2, 9)}, task=0, seed=0)
    memory.write(tmp_path / 'memory.json', NAMES)
    assert ExemplarMemory.read(tmp_path / 'memory.json') == memory
    assert json.loads((tmp_path / 'memory.json').read_text())['exemplars'][0]['class'] == 'class 1'


@pytest.mark.parametrize(('change', 'word'), [
    (lambda m: m.pop('size'), 'size'),
    (lambda m: m.update(schema=9), 'schema'),
    (lambda m: m.update(size='many'), 'size'),
    (lambda m: m.update(images_seen=0), 'images_seen'),
    (lambda m: m['exemplars'][0].update(image='../../etc/passwd'), 'below the image folder'),
    (lambda m: m['exemplars'][0].update(image='/etc/passwd'), 'below the image folder'),
    (lambda m: m['exemplars'][0].update(label=-1), 'labels'),
    (lambda m: m['exemplars'][0].update(labels=[7]), 'labels'),
    (lambda m: m['exemplars'].append(m['exemplars'][0]), 'twice'),
    (lambda m: m.update(exemplars=3), 'manifest'),
    (lambda m: m.update(size=3), 'lists 4 exemplars, more than its size'),
])
def test_wrong_manifests_are_refused(tmp_path, change, word):
    path = tmp_path / 'memory.json'
    ExemplarMemory(4).update(images(1, 9), task=0, seed=0).write(path, NAMES)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=word) as error:
        ExemplarMemory.read(path)
    assert str(path) in str(error.value)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(['schema', 'size', 'exemplars', 'image', 'label', 'labels', 'task', 'selection',
                                         'images_seen']), inner, max_size=5), max_leaves=10)


@settings(max_examples=200)
@given(JSON)
def test_any_json_is_right_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp('manifest') / 'memory.json'
    path.write_text(json.dumps(content))
    try:
        ExemplarMemory.read(path)
    except InputError:
        pass
    else:
        assert content['schema'] == 1


def test_wrong_settings():
    with pytest.raises(InputError, match='class_balanced'):
        ExemplarMemory(5, 'balanced')
    with pytest.raises(InputError, match='size'):
        ExemplarMemory(0)
