"""The config of one task."""
import copy

import pytest
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine import task_config as module
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError

TWO_TASKS = {'scenario.name': '19-1'}


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc')


def test_each_task_has_its_folder_classifiers_and_data(tree, tmp_path):
    cfg = tiny_config(tree, tmp_path, **TWO_TASKS)
    cfg.incremental = dict(train_cfg=dict(max_epochs=7))
    before = copy.deepcopy(cfg.to_dict())
    for task, classes, epochs in ((0, (19, ), cfg.train_cfg.max_epochs), (1, (19, 1), 7)):
        made = task_config(cfg, task)
        assert made.work_dir == str(tmp_path / f'task_{task}') and made.train_cfg.max_epochs == epochs
        assert tuple(made.model.decode_head.classes_per_task) == classes
        assert made.train_dataloader.dataset.task == made.test_dataloader.dataset.task == task
        assert made.test_dataloader.dataset.test_mode and not made.train_dataloader.dataset.get('test_mode')
        assert [hook.type for hook in made.custom_hooks] == [
            'SeedHook', 'FreezeHook', 'FiniteLossHook', 'MemoryHook', 'WeightsHook', 'CheckpointResumeHook',
            'ProgressHook']
    assert cfg.to_dict() == before


def test_a_task_that_is_solved_has_no_optimizer_but_its_precision(tree, tmp_path):
    cfg = tiny_config(tree, tmp_path, **TWO_TASKS, **{'incremental.solver': dict(type='Newton')})
    cfg.optim_wrapper.update(type='BFloat16OptimWrapper', clip_grad=dict(max_norm=1), accumulative_counts=2)
    assert task_config(cfg, 0).optim_wrapper.optimizer.type == 'SGD'
    solved = task_config(cfg, 1)
    assert solved.optim_wrapper == dict(
        type='BFloat16OptimWrapper', accumulative_counts=2, optimizer=dict(type='NoOptimizer'))
    assert solved.param_scheduler is None


def test_only_task_0_reads_pretrained_weights(tree, tmp_path):
    cfg = tiny_config(tree, tmp_path, **TWO_TASKS)
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='resnet.pth')
    first, second = task_config(cfg, 0), task_config(cfg, 1)
    assert first.model.backbone.init_cfg.checkpoint == 'resnet.pth' and second.model.backbone.init_cfg is None


@pytest.mark.parametrize('key', ['load_from', 'resume'])
def test_what_the_chain_of_tasks_decides_cannot_be_set(tree, tmp_path, key):
    for group, task in ((None, 0), ('incremental', 1)):
        cfg = tiny_config(tree, tmp_path, **TWO_TASKS)
        cfg.merge_from_dict({f'{group}.{key}' if group else key: 'weights.pth'})
        with pytest.raises(InputError, match=f'{key} is set, but every task starts from the weights of the task'):
            task_config(cfg, task)


@pytest.mark.parametrize('crop, divisor, size', [(24, None, (24, 24)), ((24, 16), None, (24, 16)), (24, 32, None)])
def test_small_images_are_filled_up_to_the_crop_or_as_the_config_says(tree, tmp_path, crop, divisor, size):
    cfg = tiny_config(tree, tmp_path, **TWO_TASKS)
    cfg.crop_size = crop
    cfg.model.data_preprocessor.size_divisor = divisor
    assert task_config(cfg, 0).model.data_preprocessor.get('size') == size


@pytest.mark.parametrize('crop', [-5, 0, 'big', (24, ), (24, 2.5)], ids=str)
def test_a_crop_that_is_no_size_is_refused(tree, tmp_path, crop):
    cfg = tiny_config(tree, tmp_path, **TWO_TASKS)
    cfg.crop_size = crop
    with pytest.raises(InputError, match=r'crop_size is .*; it is a number of pixels, at least 1, or'):
        task_config(cfg, 0)


def test_without_gpus_processes_are_wrapped_as_the_config_says(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'is_distributed', lambda: True)
    monkeypatch.setattr(module.torch.cuda, 'is_available', lambda: False)
    cfg = tiny_config(tree, tmp_path, **TWO_TASKS, find_unused_parameters=True)
    cfg.model_wrapper_cfg = dict(bucket_cap_mb=5)
    assert task_config(cfg, 0).model_wrapper_cfg == dict(
        type='MMDistributedDataParallel', bucket_cap_mb=5, broadcast_buffers=False, find_unused_parameters=True,
        device_ids=None)


def test_the_test_loop_keeps_its_own_values_beside_those_of_the_cache(tree, tmp_path):
    cfg = tiny_config(tree, tmp_path, **TWO_TASKS, feature_cache=dict(views=2, limit=1))
    cfg.test_cfg.fp16 = True
    for task in range(2):
        assert task_config(cfg, task).test_cfg == dict(
            type='TaskTestLoop', fp16=True, feature_cache=dict(limit=1))


def test_batch_is_shared_by_all_processes(tree, tmp_path, monkeypatch):
    cfg = tiny_config(tree, tmp_path, **TWO_TASKS)
    monkeypatch.setattr(module, 'get_world_size', lambda: 2)
    assert task_config(cfg, 0).train_dataloader.batch_size == 2
    monkeypatch.setattr(module, 'get_world_size', lambda: 3)
    with pytest.raises(InputError, match='cannot be split among 3'):
        task_config(cfg, 0)
