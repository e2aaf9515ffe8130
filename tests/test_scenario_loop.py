"""Whole runs on a few tiny images."""
import json
import runpy
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmseg.registry import HOOKS
from PIL import Image
from test_machine import PAGES, REUSES, faults_of_a_new_tensor
from tiny import ADE, METHODS, ROOT, ade_tree, has_memory, tiny_config, tiny_options, voc_tree

from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import evaluate_task, run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.work_dir.weights import load_state

TWO_TASKS = {'scenario.name': '19-1'}


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc')


def weights(work_dir, task):
    return load_state(work_dir / f'task_{task}/weights.pth')['state_dict']


def test_methods_are_found():
    assert {'ssul/voc_15-1', 'ssul/voc_15-1_m', 'fine_tuning/voc_15-1', 'joint/voc_15-1'} < set(METHODS)
    # Whatever file a method has, and whatever type of network any config names, one of these runs it.
    assert {path.stem for path in (ROOT / 'ssul_mmseg/methods').glob('[a-z]*.py')} <= {
        name.partition('/')[0] for name in METHODS}
    types = {path: Config.fromfile(path).model.type for path in (ROOT / 'configs').glob('[a-z]*/*.py')}
    assert set(types.values()) == {types[ROOT / f'configs/{name}.py'] for name in METHODS}
    assert {name.partition('/')[0] for name in ADE} == {name.partition('/')[0] for name in METHODS}


@pytest.mark.parametrize('config', METHODS)
def test_every_method_runs_to_its_table(tree, tmp_path, config):
    # A rival can have a memory too; without one each of them runs in test_resume.
    remembers = has_memory(config) or not config.startswith(('ssul', 'joint'))
    options = TWO_TASKS | ({'memory.size': 25} if remembers else {})
    cfg = tiny_config(tree, tmp_path, f'configs/{config}.py', **options)
    document = run_scenario(cfg)
    assert document == json.loads((tmp_path / 'results.json').read_text())
    tasks = document['tasks']
    assert len(tasks) == (1 if 'joint' in config else 2)
    assert set(document['final']) == {'base', 'new', 'all'} and document['final']['new'] is not None
    assert len(tasks[-1]['IoU']) == 21 and 0 <= document['final']['all'] <= 100
    assert '19-1' in (tmp_path / 'results.md').read_text()
    if remembers:
        manifest = json.loads((tmp_path / 'task_0/memory.json').read_text())
        assert len(manifest['exemplars']) == 25 and tasks[1]['memory'] == 25
    if config.startswith('ssul'):
        before, after = weights(tmp_path, 0), weights(tmp_path, 1)
        moved = {key for key in before if not torch.equal(before[key], after[key])}
        assert moved and all('classifiers.background' in key or 'classifiers.unknown' in key for key in moved)


@pytest.fixture(scope='module')
def ade(tmp_path_factory):
    return ade_tree(tmp_path_factory.mktemp('data') / 'ade')


@pytest.mark.parametrize('config', ADE)
def test_every_method_learns_a_tree_in_ade_s_layout(ade, tmp_path, config):
    options = {'train_cfg.max_epochs': 1} | ({'memory.size': 8} if has_memory(config) else {})
    tasks = range(1 if 'joint' in config else 2)
    document = run_scenario(tiny_config(ade, tmp_path, f'configs/{config}.py', **options), tasks)
    last = document['tasks'][-1]['IoU']
    # Background counts for what no task has labelled yet.
    assert len(last) == (151 if 'joint' in config else 106) and [*last][:2] == ['background', 'wall']
    assert all(0 <= last[name] <= 100 for name in [*last][:20])


@pytest.fixture(scope='module')
def default(tree, tmp_path_factory):
    """Weights of task 1 of SSUL as it is, after one epoch a task."""
    work_dir = tmp_path_factory.mktemp('default')
    run_scenario(tiny_config(tree, work_dir, **TWO_TASKS, **{'train_cfg.max_epochs': 1}))
    return weights(work_dir, 1)


@pytest.mark.parametrize('options', [
    {'model.freeze': False}, {'model.decode_head.classifier': 'conv'}, {'model.merge_unknown': 'scores'},
    {'model.decode_head.loss_decode.type': 'SoftmaxCELoss'}, {'saliency': 'ground_truth'}, {'model.tau': None},
    {'scenario.setting': 'disjoint'}, {'scenario.setting': 'sequential'}, {'scenario.order': list(range(20, 0, -1))},
    {'model.decode_head.unknown': False, 'model.weight_transfer': 'background'},
    {'feature_cache': dict(views=2)},
], ids=str)
def test_ablations_run_and_change_what_is_learned(tree, tmp_path, default, options):
    cfg = tiny_config(tree, tmp_path, **TWO_TASKS, **options)
    cfg.train_cfg.max_epochs = 1
    assert run_scenario(cfg)['final']['all'] >= 0
    found = weights(tmp_path, 1)
    same = found.keys() == default.keys() and all(torch.equal(found[key], default[key]) for key in default)
    # The tree's saliency maps are its ground truth, scores are added at test time, and tau is reached later.
    assert same == any(key in options for key in ('saliency', 'model.merge_unknown', 'model.tau'))


@pytest.mark.parametrize('options, message', [
    ({'memory.selection': 'balanced'}, 'memory.selection'), ({'memory.size': 0}, 'memory.size'),
    ({'memory.labels': 'Seen'}, 'memory.labels'), ({'feature_cache': dict(views=0)}, 'feature_cache.views'),
    ({'feature_cache': dict(location='gpu')}, 'feature_cache.location'), ({'train_dataloader.batch_size': 1}, 'batch'),
    ({'model.decode_head.unknown': False}, 'model.weight_transfer'), ({'incremental.model.tau': 7}, 'model.tau'),
], ids=str)
def test_what_only_later_tasks_need_is_checked_before_the_first(tree, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run_scenario(tiny_config(tree, tmp_path, 'configs/ssul/voc_15-1_m.py', **TWO_TASKS, **options))
    assert not list(tmp_path.rglob('*.pth'))


@pytest.mark.parametrize('name, harm, message', [
    ('SegmentationClassAug/2007_000007.png', lambda path: path.unlink(), 'mask .*2007_000007.png is missing'),
    ('SegmentationClassAug/2007_000007.png', lambda path: path.write_bytes(b'torn'), '2007_000007.png'),
    ('JPEGImages/2007_000007.jpg', lambda path: path.unlink(), 'image .*2007_000007.jpg is missing'),
    ('SaliencyMap/2007_000019.png', lambda path: path.unlink(),
     r'saliency map .*2007_000019.png is missing; .*set saliency=ground_truth'),
    ('ImageSets/Segmentation/val.txt', lambda path: path.write_text('2007_000001\n2007_000001\n'), 'named twice'),
    ('ImageSets/Segmentation/val.txt', lambda path: path.write_bytes(b'\xff\xfe'), r'val\.txt cannot be read'),
])
def test_missing_and_damaged_files_of_later_tasks_and_of_the_test_are_found_before_training(
        tmp_path, name, harm, message):
    root = voc_tree(tmp_path / 'voc', 24)
    harm(root / name)
    with pytest.raises(InputError, match=message):
        run_scenario(tiny_config(root, tmp_path / 'work', **TWO_TASKS))
    assert not list((tmp_path / 'work').glob('task_*/*.pth')) and not (tmp_path / 'work/run.json').exists()


def test_a_list_that_is_a_folder_is_refused(tree, tmp_path):
    options = {'train_dataloader.dataset.dataset.ann_file': 'ImageSets/Segmentation'}
    with pytest.raises(InputError, match=r'ImageSets/Segmentation cannot be read \(Is a directory\)'):
        run_scenario(tiny_config(tree, tmp_path, **TWO_TASKS, **options))


@pytest.mark.parametrize('options', [{'model.decode_head.in_channels': 7}, {'model.decode_head.in_index': 9}], ids=str)
def test_a_network_whose_sizes_do_not_go_together_is_reported(tree, tmp_path, options):
    with pytest.raises(InputError, match=r'the first step of task_0 failed|cannot be used'):
        run_scenario(tiny_config(tree, tmp_path, **TWO_TASKS, **options))


@pytest.mark.parametrize('options, message', [
    ({'test_evaluator.type': 'IoUMetric'}, r'test_evaluator\.type is IoUMetric'),
    ({'memory': dict(labels='stored')}, r'memory\.size is not set'),
])
def test_results_and_memory_need_what_makes_them(tree, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run_scenario(tiny_config(tree, tmp_path, **TWO_TASKS, **options))


def test_the_memory_may_grow_from_a_task_learned_before(tree, tmp_path):
    small, large = ({**TWO_TASKS, 'memory.size': size} for size in (20, 25))
    run_scenario(tiny_config(tree, tmp_path / 'a', 'configs/ssul/voc_15-1_m.py', **small), range(1))
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b/task_0').symlink_to(tmp_path / 'a/task_0')
    run_scenario(tiny_config(tree, tmp_path / 'b', 'configs/ssul/voc_15-1_m.py', **large), range(1, 2))
    assert json.loads((tmp_path / 'b/task_1/memory.json').read_text())['size'] == 25


def test_whole_images_of_several_sizes_are_tested_by_one_option(tmp_path):
    root = voc_tree(tmp_path / 'voc')
    for folder, suffix in (('JPEGImages', 'jpg'), ('SegmentationClassAug', 'png'), ('SaliencyMap', 'png')):
        path = root / folder / f'2007_000000.{suffix}'
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path)
    options = {'test_size': None, 'train_cfg.max_epochs': 1, **TWO_TASKS}
    plain = run_scenario(tiny_config(root, tmp_path / 'plain', **options))
    kept = run_scenario(tiny_config(root, tmp_path / 'kept', **options, feature_cache=dict(views=1)))
    # Task 0 is trained alike; only the rounding of kept features differs.
    assert plain['tasks'][0]['mIoU'] == pytest.approx(kept['tasks'][0]['mIoU'], abs=.1)
    assert plain['final']['all'] >= 0 and kept['final']['all'] >= 0


@pytest.mark.parametrize('backbone, width', [
    (dict(type='MixVisionTransformer', embed_dims=4, num_stages=4, num_layers=[1] * 4, num_heads=[1, 2, 4, 8],
          patch_sizes=[7, 3, 3, 3], sr_ratios=[2, 2, 1, 1], mlp_ratio=2, drop_path_rate=.1), 32),
    (dict(type='SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=2,
          drop_path_rate=.1), 64),
    (dict(type='MobileNetV2', widen_factor=.25, strides=(1, 2, 2, 1, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4, 4),
          out_indices=(1, 2, 4, 6), norm_cfg=dict(type='BN')), 80),
], ids=lambda value: value['type'] if isinstance(value, dict) else '')
def test_other_backbones_learn_two_tasks(tree, tmp_path, backbone, width):
    cfg = tiny_config(tree, tmp_path, **TWO_TASKS)
    cfg.model.backbone = backbone
    cfg.model.decode_head.update(in_channels=width, in_index=-1)
    cfg.train_cfg.max_epochs = 1
    assert len(run_scenario(cfg)['tasks']) == 2


def test_a_missing_memory_is_reported_before_anything_is_trained(tree, tmp_path):
    run_scenario(tiny_config(tree, tmp_path / 'a', **TWO_TASKS), range(1))
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b/task_0').symlink_to(tmp_path / 'a/task_0')
    cfg = tiny_config(tree, tmp_path / 'b', 'configs/ssul/voc_15-1_m.py', **TWO_TASKS, **{'memory.size': 20})
    with pytest.raises(InputError, match=r'task_0/memory\.json is missing; choose them again with --tasks 0 --resume'):
        run_scenario(cfg, range(1, 2))


def test_tasks_can_be_run_one_by_one(tree, tmp_path):
    whole = tiny_config(tree, tmp_path / 'whole', **TWO_TASKS)
    run_scenario(whole)
    parts = tiny_config(tree, tmp_path / 'parts', **TWO_TASKS)
    with pytest.raises(InputError, match='task 1 starts from task 0'):
        run_scenario(parts, range(1, 2))
    run_scenario(parts, range(1))
    assert Run(parts).learned_task(None) == 0
    run_scenario(parts, range(1, 2))
    for key, value in weights(tmp_path / 'whole', 1).items():
        assert torch.equal(value, weights(tmp_path / 'parts', 1)[key]), key
    metrics = evaluate_task(Run(parts), 1)
    final = json.loads((tmp_path / 'parts/results.json').read_text())['final']
    assert metrics['mIoU_all'] == pytest.approx(final['all'])
    assert metrics['forgetting'] is not None


def test_on_other_images_than_the_runs_nothing_is_said_of_forgetting(tree, tmp_path):
    """Earlier tasks were evaluated on the run's images: a difference to these would mix images with forgetting."""
    run_scenario(tiny_config(tree, tmp_path / 'run', **TWO_TASKS))
    shutil.copytree(tree, tmp_path / 'others')
    other = tiny_config(tmp_path / 'others', tmp_path / 'run', **TWO_TASKS)
    metrics = evaluate_task(Run(other), 1)
    assert metrics['mIoU_all'] is not None and metrics['forgetting'] is None and metrics['forgetting_per_task'] == []


def test_the_tool_prints_the_table_of_a_task_or_its_metrics(tree, tmp_path, capsys):
    run_scenario(tiny_config(tree, tmp_path, **TWO_TASKS), range(1))
    main = runpy.run_path(str(ROOT / 'tools/test.py'))['main']
    options = {**tiny_options(tree), **TWO_TASKS}
    arguments = [str(ROOT / 'configs/ssul/voc_15-1.py'), str(tmp_path), '--cfg-options',
                 *(f'{key}={value}'.replace(' ', '') for key, value in options.items())]
    capsys.readouterr()
    main(arguments)
    table = capsys.readouterr().out
    assert table.startswith('SSUL on VOC 19-1, overlapped, seed 0, task 0: mIoU in percent\n\n|') and '| aero' in table
    main(['--json', *arguments])
    metrics = json.loads(capsys.readouterr().out)
    assert metrics['task'] == 0 and f'{metrics["mIoU_all"]:.2f}' in table
    with pytest.raises(InputError, match=r'task 1 is not learned in .*, which holds 0'):
        main(['--task', '1', *arguments])


@HOOKS.register_module()
class CountFaults(Hook):
    """Counts the pages that the system fills for a large tensor before each task's training."""

    found = None

    def before_train(self, runner):
        CountFaults.found.append(faults_of_a_new_tensor())


@pytest.mark.skipif(not REUSES, reason='for CPUs and glibc, where pages are counted')
def test_in_a_run_large_tensors_take_freed_memory(tree, tmp_path):
    cfg = tiny_config(tree, tmp_path / 'run', **{'custom_hooks': [dict(type='CountFaults')]})
    CountFaults.found = []
    run_scenario(cfg, range(2))
    assert len(CountFaults.found) == 2 and max(CountFaults.found) < .1 * PAGES


def test_another_seed_gives_another_result(tree, tmp_path):
    first, second = (tiny_config(tree, tmp_path / str(seed), **{'randomness.seed': seed}, **TWO_TASKS)
                     for seed in (0, 1))
    for cfg in (first, second):
        run_scenario(cfg, range(1))
    a, b = weights(tmp_path / '0', 0), weights(tmp_path / '1', 0)
    assert not all(torch.equal(a[key], b[key]) for key in a)


def test_nothing_is_overwritten(tree, tmp_path):
    cfg = tiny_config(tree, tmp_path, **TWO_TASKS)
    run_scenario(cfg, range(1))
    before = (tmp_path / 'task_0/weights.pth').read_bytes()
    with pytest.raises(InputError, match='--resume'):
        run_scenario(cfg)
    other = tiny_config(tree, tmp_path, **TWO_TASKS, **{'model.tau': .9})
    with pytest.raises(InputError, match=r'model\.tau: .*now 0\.9'):
        run_scenario(other, range(1, 2), resume=True)
    assert (tmp_path / 'task_0/weights.pth').read_bytes() == before


def test_a_checkpoint_of_another_class_order_is_refused(tree, tmp_path):
    run_scenario(tiny_config(tree, tmp_path / 'a', **TWO_TASKS), range(1))
    other = tiny_config(tree, tmp_path / 'b', **TWO_TASKS, **{'scenario.order': list(range(20, 0, -1))})
    (tmp_path / 'b/task_0').mkdir(parents=True)
    (tmp_path / 'b/task_0/weights.pth').write_bytes((tmp_path / 'a/task_0/weights.pth').read_bytes())
    with pytest.raises(InputError, match='another scenario or class order'):
        run_scenario(other, range(1, 2))


@pytest.mark.parametrize('options', [{'scenario.name': '15-5'}, {'scenario.order': [20, *range(2, 20), 1]}], ids=str)
def test_a_config_of_other_classes_than_the_work_dir_was_trained_on_is_reported(tree, tmp_path, options):
    run_scenario(tiny_config(tree, tmp_path / 'a', **TWO_TASKS), range(1))
    other = tiny_config(tree, tmp_path / 'b', **{**TWO_TASKS, **options})
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b/task_0').symlink_to(tmp_path / 'a/task_0')
    for use in (lambda: run_scenario(other, range(1, 2)), lambda: evaluate_task(Run(other), 0)):
        with pytest.raises(InputError, match=r'task 0 in .* was trained on the classes aeroplane, .*, but the config '
                                             r'.*voc_15-1\.py has .*; give the config that was trained'):
            use()
    assert (tmp_path / 'a/task_0/result.json').is_file()


def test_a_moved_frozen_tensor_is_noticed(tree, tmp_path, monkeypatch):
    from ssul_mmseg.methods import SSUL
    cfg = tiny_config(tree, tmp_path, **TWO_TASKS)
    run_scenario(cfg, range(1))
    monkeypatch.setattr(SSUL, 'train', lambda self, mode=True: torch.nn.Module.train(self, mode))
    with pytest.raises(RuntimeError, match='frozen tensors moved'):
        run_scenario(cfg, range(1, 2))


def test_bad_data_stop_before_training(tree, tmp_path):
    cfg = tiny_config(tmp_path / 'nowhere', tmp_path / 'work', **TWO_TASKS)
    with pytest.raises(InputError, match='nowhere'):
        run_scenario(cfg)
    assert not list((tmp_path / 'work').glob('task_*'))


def test_a_loss_that_is_no_number_names_its_images(tree, tmp_path):
    cfg = tiny_config(tree, tmp_path, **TWO_TASKS)
    cfg.optim_wrapper.optimizer.lr = 1e30
    with pytest.raises(InputError, match=r'loss of task 0 is (nan|inf).*2007_0000\d\d\.jpg'):
        run_scenario(cfg)


def test_missing_pretrained_weights_say_where_to_put_them(tree, tmp_path):
    cfg = tiny_config(tree, tmp_path, **TWO_TASKS)
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'resnet.pth'))
    with pytest.raises(InputError, match=r'resnet\.pth.*model\.backbone\.init_cfg\.checkpoint'):
        run_scenario(cfg)


def test_a_data_set_that_reduces_its_zero_label_has_background_in_its_tables(tree, tmp_path):
    """Value 0 is of no class, so it is background, although that is not among the classes."""
    names = [f'class {i}' for i in range(1, 21)]
    results = {}
    for reduced in (True, False):
        cfg = tiny_config(tree, tmp_path / str(reduced), **TWO_TASKS, **{'train_cfg.max_epochs': 1})
        for loader in (cfg.train_dataloader, cfg.test_dataloader):
            classes = names if reduced else ['background', *names]
            metainfo = dict(classes=classes, palette=[[i] * 3 for i in range(len(classes))])
            loader.dataset.dataset.update(type='BaseSegDataset', reduce_zero_label=reduced, metainfo=metainfo)
        results[reduced] = run_scenario(cfg)['tasks']
    for reduced, plain in zip(results[True], results[False], strict=True):
        assert reduced['IoU'] == plain['IoU'] and reduced['IoU']['background'] > 0
        assert reduced['mIoU'] == plain['mIoU'] != reduced['mIoU_no_background']
