"""What a seed and a task change in a run, seen in the batches that reach the network."""
import json
import random
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.hooks import Hook
from mmseg.registry import HOOKS, TRANSFORMS
from tiny import tiny_config, voc_tree

from ssul_mmseg.datasets.memory import ExemplarMemory
from ssul_mmseg.engine.processes import unwrap
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.work_dir.layout import MEMORY

SEEDS, TASKS = (0, 1), (0, 1, 2)
AUXILIARY = dict(type='IncrementalFCNHead', in_channels=16, channels=8, in_index=0, num_convs=1,
                 norm_cfg=dict(type='BN'))


@TRANSFORMS.register_module()
class Draw(BaseTransform):
    """Draws a number from each of the two generators that augmentations draw from."""

    def transform(self, results):
        results['drawn'] = random.random(), np.random.random()
        return results


@HOOKS.register_module()
class Record(Hook):
    """Records, by task, what is drawn for the batches of a run."""

    tasks = None

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        task = Record.tasks[runner.task]
        samples = data_batch['data_samples']
        task.keys.append(runner.train_loop.batch(runner.iter))
        task.drawn += [sample.drawn for sample in samples]
        task.images.append([Path(sample.img_path).name for sample in samples])
        task.torch_seeds.append(torch.initial_seed())
        task.dropout_seeds += [head.dropout._batch[0] for head in unwrap(runner.model).heads]
        task.num_new = runner.train_dataloader.dataset.num_new


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """By seed: what was drawn by task, and the work dir. Tasks 1 and 2 have equally many images and exemplars."""
    root, runs = voc_tree(tmp_path_factory.mktemp('data') / 'voc'), {}
    for seed in SEEDS:
        Record.tasks = defaultdict(lambda: SimpleNamespace(
            keys=[], drawn=[], images=[], torch_seeds=[], dropout_seeds=[], num_new=0))
        work_dir = tmp_path_factory.mktemp('run')
        cfg = tiny_config(root, work_dir, 'configs/ssul/voc_15-1_m.py', **{
            'scenario.name': '10-5', 'memory.size': 10, 'randomness.seed': seed, 'model.auxiliary_head': AUXILIARY,
            'model.backbone.out_indices': (2, 3), 'model.decode_head.in_index': 1})
        pipeline = cfg.train_dataloader.dataset.pipeline
        pipeline[-1].meta_keys = ('img_path', 'drawn')
        pipeline.insert(-1, dict(type='Draw'))
        cfg.custom_hooks = [dict(type='Record')]
        run_scenario(cfg)
        runs[seed] = SimpleNamespace(tasks=Record.tasks, cfg=cfg, work_dir=work_dir)
    assert runs[0].tasks[1].num_new == runs[0].tasks[2].num_new == 13
    return runs


def disjoint(*parts):
    """Whether no value is in two parts, or twice in one."""
    values = [value for part in parts for value in part]
    return len(values) > len(parts) and len(set(values)) == len(values)


@pytest.mark.parametrize('what', ['drawn', 'torch_seeds'])
def test_every_sample_and_iteration_of_every_task_and_seed_draws_anew(runs, what):
    assert disjoint(*(getattr(runs[seed].tasks[task], what) for seed in SEEDS for task in TASKS))


def test_every_head_is_told_what_to_drop_in_every_iteration(runs):
    seeds = [runs[seed].tasks[task].dropout_seeds for seed in SEEDS for task in TASKS]
    assert all(both[::2] == both[1::2] for both in seeds)  # the decode head, the auxiliary head
    assert disjoint(*(both[::2] for both in seeds))


def test_the_order_of_images_is_one_of_the_seed_and_the_task(runs):
    orders = []
    for seed in SEEDS:
        for task in (1, 2):
            keys = runs[seed].tasks[task].keys
            orders.append(tuple(position for batch in keys for position, _ in batch if position < 13))
            orders.append(tuple(position for batch in keys for position, _ in batch if position >= 13))
    assert len(set(orders)) == len(orders) == 8


def test_a_memory_is_a_function_of_the_seed_the_one_before_and_the_images_of_the_task(runs):
    for seed in SEEDS:
        run = Run(runs[seed].cfg)
        memory = run.memory
        for task in TASKS:
            images = run.train_data(task_config(run.config, task), task).images_by_class()
            memory = memory.update(images, task, seed)
            assert ExemplarMemory.read(run.folder(task) / MEMORY) == memory


def test_a_task_replays_the_exemplars_of_the_task_before_it(runs):
    for task in (1, 2):
        done = runs[0].tasks[task]
        replayed = set()
        for keys, images in zip(done.keys, done.images, strict=True):
            replayed |= {image for (position, _), image in zip(keys, images, strict=True) if position >= done.num_new}
        manifest = json.loads((runs[0].work_dir / f'task_{task - 1}/memory.json').read_text())
        assert replayed == {exemplar['image'] for exemplar in manifest['exemplars']}
        assert manifest['images_seen'] == sum(runs[0].tasks[before].num_new for before in range(task))
