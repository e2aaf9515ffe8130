"""Whatever comes in is read rightly, or refused in a sentence that names the file: 2,400 generated cases."""
import contextlib
import copy
import functools
import io
import json
import operator
import tempfile
from pathlib import Path
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis.extra.numpy import arrays
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.optim import OptimWrapper, PolyLR
from mmseg.datasets import PascalVOCDataset
from mmseg.registry import DATASETS, MODELS
from PIL import Image
from tiny import ROOT, tiny_config, voc_tree
from torch.optim import SGD
from torch.utils.data import DataLoader

from ssul_mmseg.datasets.class_index import ClassIndex
from ssul_mmseg.datasets.memory import ExemplarMemory
from ssul_mmseg.datasets.samplers import ReplayBatchSampler
from ssul_mmseg.datasets.source import label_table
from ssul_mmseg.datasets.transforms import LabelAugmentation, LoadImage, LoadLabels
from ssul_mmseg.engine.checkpoint_hook import CheckpointResumeHook
from ssul_mmseg.engine.resume import check_same_run
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.runner import task_runner
from ssul_mmseg.engine.scenario_loop import run_scenario, write_results
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.engine.weights_hook import ORIGIN
from ssul_mmseg.errors import InputError
from ssul_mmseg.evaluation.compare import compare
from ssul_mmseg.evaluation.tables import scenario_table
from ssul_mmseg.models.segmentors import OldTask
from ssul_mmseg.options import read_config, set_options
from ssul_mmseg.scenario import BACKGROUND, IGNORE, SETTINGS, UNKNOWN, Scenario
from ssul_mmseg.work_dir.results import read_results, results_document, task_entry
from ssul_mmseg.work_dir.weights import load_weights, save_state

COMMON = settings(database=None, suppress_health_check=list(HealthCheck))
NORMAL = settings(COMMON, max_examples=200, derandomize=True)
SLOW = settings(COMMON, max_examples=2000)


def fuzz(**strategies):
    """Make a test that checks a function of a folder and of cases: 200 in the normal run, 2,000 in the slow one."""
    def decorate(check):
        @pytest.mark.parametrize('profile', [NORMAL, pytest.param(SLOW, marks=pytest.mark.slow)],
                                 ids=['normal', 'slow'])
        def test(profile, tmp_path):
            @profile
            @given(**strategies)
            def holds(**case):
                check(tmp_path, **case)
            holds()
        return test
    return decorate


def right_or_refused(work, *names):
    """The result of ``work()``, or None where it was refused in one sentence with all the names."""
    try:
        return work()
    except InputError as error:
        assert all(name in error.sentence for name in names), error.sentence
        return None


# Any value that a config or a JSON file can hold; texts may hold halves of characters that UTF-8 cannot encode.
TEXT = st.text(st.characters(), max_size=6)
SCALAR = st.none() | st.booleans() | st.integers() | st.integers(-2, 30) | st.floats() | TEXT
VALUE = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
                     max_leaves=6)
LIKELY = st.integers(-1, 30) | VALUE


def damaged(content):
    """Files that are like ``content`` but for changed bytes, a piece cut off, something in between or appended."""
    def damage(changes, length, place, piece):
        found = bytearray(content)
        for position, change in changes:
            found[position] ^= change
        return bytes(found[:place] + piece + found[place:length])
    size = st.integers(0, len(content))
    changes = st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(1, 255)), max_size=3)
    return st.builds(damage, changes, size | st.just(len(content)), size, st.just(b'') | st.binary(max_size=9))


def places(document, path=()):
    """All places in a JSON document, itself included."""
    children = ()
    if isinstance(document, dict):
        children = document.items()
    elif isinstance(document, list):
        children = enumerate(document)
    found = [path]
    for key, child in children:
        found += places(child, (*path, key))
    return found


def changed(document, values=LIKELY):
    """Documents that differ from ``document`` in up to three places: another value there, or none."""
    def change(edits):
        found = [copy.deepcopy(document)]
        for path, value, remove in edits:
            *parents, last = (0, *path)
            with contextlib.suppress(LookupError, TypeError):  # an edit before has removed the place
                part = functools.reduce(operator.getitem, parents, found)
                if isinstance(part, dict | list):  # an edit before has put something else there
                    part[last] = value
                    if remove and path:
                        del part[last]
        return found[0]
    edit = st.tuples(st.sampled_from(places(document)), values, st.booleans())
    return st.lists(edit, max_size=3).map(change)


def mostly(usual):
    """Values of the usual kind, now and then any other: what is checked last must be reached too."""
    return st.sampled_from([usual] * 9 + [VALUE]).flatmap(lambda kind: kind)


def split(base, increment, num_tasks):
    """Name and number of classes of a scenario."""
    return f'{base}-{increment}', base + increment * num_tasks


@fuzz(split=st.builds(split, st.integers(0, 9), st.integers(1, 5), st.integers(0, 4)), name=mostly(st.none()),
      num_classes=mostly(st.none()), order=mostly(st.sampled_from(['as it is', 'shuffled'])), chance=st.randoms(),
      joint=st.booleans(), task=st.integers(-1, 5), setting=mostly(st.sampled_from(SETTINGS)))
def test_scenarios(folder, split, name, num_classes, order, chance, joint, task, setting):
    name, num_classes = name or split[0], num_classes or split[1]
    if order == 'as it is':
        order = None
    elif order == 'shuffled':
        order = chance.sample(range(1, split[1] + 1), split[1])

    def build():
        scenario = Scenario(name, num_classes, order, joint, setting)
        return scenario, scenario.labelled(scenario.check_task(task))
    found = right_or_refused(build)
    if found:
        scenario, labelled = found
        every = [*range(1, num_classes + 1)]
        assert sorted(scenario.order) == every == [label for labels in scenario.tasks for label in labels]
        base, increment = map(int, name.split('-'))
        assert [len(labels) for labels in scenario.tasks] == (
            [num_classes] if joint else [base] + [increment] * ((num_classes - base) // increment))
        new = scenario.tasks[task]
        assert [*scenario.old(task), *new, *scenario.future(task)] == every
        assert labelled == (scenario.seen(task) if setting == 'sequential' else new)


def png(mask, colours, mode):
    """A mask as PNG: indexed, with any palette, or grey."""
    image = Image.fromarray(mask)
    if mode == 'P':
        image.putpalette(colours)
    stream = io.BytesIO()
    image.save(stream, 'PNG')
    return stream.getvalue()


def data_set(num_classes, kind):
    """What a label table is made from: with a background class, without one, or with a zero label of no class."""
    names = tuple(map(str, range(num_classes)))
    return SimpleNamespace(metainfo=dict(classes=('background', *names) if kind == 'background' else names),
                           reduce_zero_label=kind == 'zero label', label_map=None)


def augmented(value, salient, kind, order, labelled, saliency):
    """Eq. 1, rows 1, 3 and 4, for one pixel, or None where its value stands for no class."""
    if value == 255:
        return IGNORE
    class_id = value + 1 if kind == 'no background' else value
    if class_id > len(order):
        return None
    label = order.index(class_id) + 1 if class_id else BACKGROUND
    if label in labelled:
        return label
    unknown = {'map': salient, 'ground_truth': label != BACKGROUND, 'all': True, None: False}[saliency]
    return UNKNOWN if unknown else BACKGROUND


SIZE = st.tuples(st.integers(1, 8), st.integers(1, 8))
KIND = st.sampled_from(['background', 'no background', 'zero label'])


def masks(num_classes):
    """Masks that hold the values of classes and 255, now and then any other."""
    usual = st.sampled_from([*range(num_classes + 1), 255])
    return SIZE.flatmap(lambda size: arrays(np.uint8, size, elements=usual) | arrays(np.uint8, size))


@fuzz(data=st.data(), base=st.integers(1, 12) | st.integers(1, 250), kind=KIND, chance=st.randoms(),
      saliency=st.sampled_from(['map', 'ground_truth', 'all', None]), setting=st.sampled_from(SETTINGS),
      colours=st.binary(min_size=768, max_size=768), mode=st.sampled_from('PL'))
def test_label_maps(folder, data, base, kind, chance, saliency, setting, colours, mode):
    num_classes = base + data.draw(st.integers(0, 3))
    order = chance.sample(range(1, num_classes + 1), num_classes)
    scenario = Scenario(f'{base}-1', num_classes, order, setting=setting)
    labelled = scenario.labelled(data.draw(st.integers(0, len(scenario.tasks) - 1)))
    mask = data.draw(masks(num_classes))
    salient = data.draw(arrays(np.uint8, mask.shape, elements=st.sampled_from([0, 0, 1, 255])))
    (folder / 'mask.png').write_bytes(png(mask, colours, mode))
    (folder / 'salient.png').write_bytes(png(salient, colours, mode))
    results = dict(seg_map_path=str(folder / 'mask.png'), saliency_path=str(folder / 'salient.png'), seg_fields=[],
                   label_table=label_table(data_set(num_classes, kind), scenario), labelled=labelled)
    found = right_or_refused(lambda: LabelAugmentation(saliency)(LoadLabels()(results))['gt_seg_map'], 'mask.png')
    pixels = zip(mask.flatten().tolist(), salient.flatten().tolist(), strict=True)
    expected = [augmented(value, bool(s), kind, order, labelled, saliency) for value, s in pixels]
    assert (found is None) == (None in expected)
    assert found is None or (found.shape == mask.shape and found.flatten().tolist() == expected)


def stored(pixels, form='PNG'):
    """An image file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


PICTURE = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
MASK = np.random.default_rng(1).choice([0, 1, 2, 255], (6, 7)).astype(np.uint8)
SALIENT = (MASK % 3).astype(np.uint8)
# Other sizes, depths and numbers of channels.
FOREIGN = [*(np.zeros((rows, 7, *bands), np.uint8) for rows in (5, 6) for bands in ((), (2, ), (4, ))),
           *(np.zeros((6, 7), kind) for kind in (bool, np.uint16, np.int32, np.float32))]


def files(pixels, form='PNG'):
    """Files that should hold ``pixels``, some damaged or of another kind, with the values that can be read in them."""
    content = stored(pixels, form)
    own = st.just(content) | damaged(content) | st.binary(max_size=50)
    # PNG holds at most 16 bits.
    forms = {1: 'PNG', 2: 'PNG', 4: 'TIFF'}
    foreign = st.sampled_from([(stored(other, forms[other.itemsize]), other) for other in FOREIGN])
    return own.map(lambda file: (file, pixels)) | foreign


@fuzz(image=st.just((stored(PICTURE), PICTURE)) | files(PICTURE) | files(PICTURE, 'JPEG'), mask=files(MASK),
      saliency=files(SALIENT))
def test_files_of_images(folder, **contents):
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    table = np.full(256, -1, np.int16)
    table[[0, 1, 2, 255]] = 0, 1, 2, 255
    results = dict(img_path=str(folder / 'image'), seg_map_path=str(folder / 'mask'), seg_fields=[], label_table=table,
                   saliency_path=str(folder / 'saliency'), labelled=range(2, 3))
    found = right_or_refused(lambda: LabelAugmentation('map')(LoadLabels()(LoadImage()(results))), str(folder))
    if found:
        mask, salient = contents['mask'][1], contents['saliency'][1] > 0
        expected = np.where((mask == 2) | (mask == 255), mask, np.where(salient, UNKNOWN, BACKGROUND))
        assert (found['gt_seg_map'] == expected).all()
        assert found['img'].shape == (*mask.shape, 3) and found['img'].dtype == np.uint8
        assert not Image.open(folder / 'image').mode.startswith(('I', 'F'))


VOC = PascalVOCDataset.METAINFO['classes']
MEMORY = ExemplarMemory(6).update({label: [f'2007_{i:06d}.jpg' for i in range(label, 24, 5)] for label in range(1, 16)},
                                  task=0, seed=0)


def manifest():
    """The manifest of a memory after the base task of VOC 15-1."""
    with tempfile.TemporaryDirectory() as folder:
        MEMORY.write(f'{folder}/memory.json', VOC)
        return json.loads(Path(folder, 'memory.json').read_text())


@fuzz(content=mostly(changed(manifest())) | damaged(json.dumps(manifest()).encode()))
def test_memory_manifests(folder, content):
    path = folder / 'memory.json'
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    if not (folder / 'voc').exists():
        voc_tree(folder / 'voc', 24)

    def use():
        memory = ExemplarMemory.read(path)
        dataset = DATASETS.build(dict(
            type='TaskDataset', pipeline=[dict(type='LoadImage'), dict(type='LoadLabels')], task=1, exemplars=str(path),
            scenario=dict(name='15-1', num_classes=20), index_cache=str(folder), dataset=dict(
                type='PascalVOCDataset', ann_file='ImageSets/Segmentation/train_aug.txt', data_root=str(folder / 'voc'),
                data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'))))
        return memory, dataset
    found = right_or_refused(use, str(path))
    if found:
        memory, dataset = found
        assert dataset.num_exemplars == len(memory.exemplars) <= memory.size
        for position, exemplar in enumerate(memory.exemplars, dataset.num_new):
            assert dataset.image_id(dataset.image_at(position)) == exemplar.image
            assert {exemplar.label} <= set(exemplar.labels) <= set(range(1, 16)) and exemplar.task == 0
        memory.update(dataset.images_by_class(), 1, seed=0).write(folder / 'next.json', VOC)
        assert len(ExemplarMemory.read(folder / 'next.json').exemplars) <= memory.size


@fuzz(damage=st.binary(max_size=80) | st.lists(st.tuples(st.integers(0, 2799), st.integers(0, 255)), max_size=4),
      length=st.integers(0, 2800) | st.just(2800))
def test_index_caches(folder, damage, length):
    cache = folder / 'index.npz'
    held = [[0], [0, 1, 255], [5], [0, 1, 5, 254]]
    paths = [str(folder / f'{i}.png') for i in range(len(held))]
    if not cache.exists():
        for path, values in zip(paths, held, strict=True):
            Path(path).write_bytes(stored(np.array([values], np.uint8)))
        ClassIndex.load(paths, folder / 'whole.npz')
    content = bytearray((folder / 'whole.npz').read_bytes())
    for place, value in [] if isinstance(damage, bytes) else damage:
        content[place % len(content)] = value
    cache.write_bytes(damage if isinstance(damage, bytes) else content[:length])
    found = ClassIndex.load(paths, cache)
    assert [found.values(i) for i in range(len(found))] == held
    assert ClassIndex.read(cache)[0].bits.tolist() == found.bits.tolist()


def network(classes_per_task):
    """A network of few layers: files of many tensors take long to read."""
    norm = dict(type='BN')
    return MODELS.build(dict(
        type='SSUL', backbone=dict(type='ResNet', depth=18, base_channels=2, num_stages=1, strides=(1, ),
                                   dilations=(1, ), out_indices=(0, ), norm_cfg=norm),
        decode_head=dict(type='IncrementalASPPHead', in_channels=2, channels=2, dilations=(1, ), norm_cfg=norm,
                         classes_per_task=classes_per_task)))


STATE = network([2]).state_dict()


def kept(state):
    """Bytes of a file of weights, and what it holds."""
    with tempfile.TemporaryDirectory() as folder:
        save_state(f'{folder}/weights.pth', state)
        return Path(folder, 'weights.pth').read_bytes()


WEIGHTS = {'method_state': {}, 'state_dict': dict(STATE), 'meta': {
    'classes': ['a', 'b'], 'palette': [[0, 0, 0], [9, 0, 0], [0, 9, 0]], 'task': 0, 'digest': '', 'origin': {}}}
MODEL, LATER_MODEL = network([2]), network([2, 1])
CHECKPOINT = {'state_dict': dict(MODEL.state_dict()), 'method_state': {},
              'optimizer': SGD(MODEL.parameters(), 1, .9).state_dict(),
              'param_schedulers': [{'last_step': 3}], 'iter': 3, ORIGIN: {'old weights': '', 'images': ''}}
TENSORS = st.sampled_from([torch.tensor(7), torch.ones(2), torch.ones(2).double(), torch.ones(2).to_sparse()])


@fuzz(content=damaged(kept(WEIGHTS)) | st.binary(max_size=60))
def test_damaged_weights(folder, content):
    path = folder / 'weights.pth'
    path.write_bytes(content)
    found = right_or_refused(lambda: load_weights(path, ['a', 'b'], 0).state_dict, str(path))
    assert found is None or all(torch.equal(found[key], value) for key, value in STATE.items())


@fuzz(state=changed(WEIGHTS, TENSORS | VALUE))
def test_weights_of_something_else(folder, state):
    torch.save(state, folder / 'weights.pth')

    def start():
        learned = load_weights(folder / 'weights.pth', ['a', 'b'], 0)
        LATER_MODEL.start_task(OldTask(learned.state_dict))
        return LATER_MODEL.state_dict()
    found = right_or_refused(start, 'weights')
    assert found is None or all(torch.equal(found[key], value) for key, value in state['state_dict'].items())


class Images(list):
    num_new, num_exemplars = 10, 0


LOADER = DataLoader(Images(range(10)), batch_sampler=ReplayBatchSampler(DefaultSampler(Images(range(10)), False), 2))


@fuzz(state=changed(CHECKPOINT, TENSORS | VALUE))
def test_checkpoints_of_something_else(folder, state):
    torch.save(state, folder / 'checkpoint.pth')
    optim_wrapper = OptimWrapper(SGD(MODEL.parameters(), 1, .9))
    runner = SimpleNamespace(work_dir=str(folder), model=MODEL, optim_wrapper=optim_wrapper,
                             param_schedulers=[PolyLR(optim_wrapper, end=9)], old_digest='',
                             train_dataloader=SimpleNamespace(dataset=SimpleNamespace(digest=lambda: '')),
                             train_loop=SimpleNamespace(dataloader=LOADER, iter=0, max_iters=9))
    went_on = right_or_refused(lambda: [CheckpointResumeHook().before_train(runner)], 'checkpoint.pth')
    if went_on and (folder / 'checkpoint.pth').exists():  # else it is of something else, and set aside
        assert runner.train_loop._iter == state['iter']
        assert all(torch.equal(MODEL.state_dict()[key], value) for key, value in state['state_dict'].items())


CONFIG = str(ROOT / 'configs/ssul/voc_15-1_m.py')
CFG = read_config(CONFIG)


@fuzz(content=mostly(changed({'model.tau': .7, 'saliency': None})))
def test_records_of_runs(folder, content):
    (folder / 'task_0').mkdir(exist_ok=True)
    (folder / 'task_0/weights.pth').touch()
    (folder / 'run.json').write_text(json.dumps(content))
    cfg = Config(dict(model=dict(tau=.7), saliency=None, work_dir=str(folder)))
    found = right_or_refused(lambda: [check_same_run(cfg, range(1), resume=True)], str(folder))
    assert (found is not None) == (content == {'model.tau': .7, 'saliency': None})


METRICS = {**{f'mIoU_{column}': 50. for column in ('base', 'new', 'all', 'base_no_background', 'all_no_background')},
           'forgetting': None, 'forgetting_per_task': [], 'confusion': [], 'absent': [],
           'IoU': dict.fromkeys(VOC[:16], 9.)}
ENTRY = task_entry(0, VOC[1:16], 24, 0, METRICS, 1.)
LATER = {'confusion': [], 'peak_memory': None}  # may be missing, as earlier versions did not write it
RUN = results_document('a.py', 'VOC', Scenario('15-1', 15), 'SSUL', 0, [ENTRY])


@fuzz(content=mostly(changed(ENTRY)))
def test_results_of_tasks(folder, content):
    (folder / 'task_0').mkdir(exist_ok=True)
    (folder / 'task_0/result.json').write_text(json.dumps(content))
    cfg = copy.deepcopy(CFG)
    cfg.work_dir = str(folder)

    def use():
        return write_results(Run(cfg))
    found = right_or_refused(use, str(folder))
    if found:
        assert found['tasks'] == [LATER | content]
        assert json.loads((folder / 'results.json').read_text()) == found


@fuzz(content=mostly(changed(RUN)))
def test_results_of_runs(folder, content):
    path = folder / 'results.json'
    path.write_text(json.dumps(content))
    if right_or_refused(lambda: compare([path]) + scenario_table(read_results(path)), str(path)):
        assert read_results(path) == {**content, 'tasks': [LATER | entry for entry in content['tasks']]}


KEYS = ['.'.join(map(str, place)) for place in places(CFG.to_dict())[1:]]


@functools.cache
def learned(folder):
    """The config of a run whose base task is learned."""
    cfg = tiny_config(voc_tree(folder / 'voc', 24), folder, CONFIG, **{'scenario.name': '15-5'})
    run_scenario(cfg, range(1))
    return cfg


@fuzz(key=st.sampled_from(KEYS) | st.builds('{}.{}'.format, st.sampled_from(KEYS), TEXT | st.integers(0, 9)),
      value=LIKELY | st.sampled_from(['map', 'conv', 'float16', (1, 2), .5]), task=st.integers(0, 1))
def test_options(folder, key, value, task):
    cfg = copy.deepcopy(learned(folder))

    def build():
        set_options(cfg, {key: value})
        return task_runner(Run(cfg), task_config(cfg, task), task)
    found = right_or_refused(build)
    if found and not isinstance(value, dict):
        place = functools.reduce(lambda part, name: part[int(name) if isinstance(part, list) else name],
                                 key.split('.'), cfg)
        assert place == value or value != value
