"""The memory that a run chooses is that of the tasks' images."""
import json

from tiny import tiny_config, voc_tree

from ssul_mmseg.datasets.memory import ExemplarMemory
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config

OPTIONS = {'scenario.name': '18-1', 'train_cfg.max_epochs': 1, 'memory.size': 19, 'randomness.seed': 3}


def test_each_task_chooses_among_its_images_and_the_exemplars_of_the_task_before(tmp_path):
    cfg = tiny_config(voc_tree(tmp_path / 'voc'), tmp_path / 'run', 'configs/ssul/voc_15-1_m.py', **OPTIONS)
    run_scenario(cfg)
    run, memory = Run(cfg), Run(cfg).memory
    for task in run.tasks:
        # Exemplars are no images of D_t: they are not offered as such a second time.
        images = run.train_data(task_config(cfg, task), task).images_by_class()
        memory = memory.update(images, task, seed=3)
        found = ExemplarMemory.read(tmp_path / f'run/task_{task}/memory.json')
        assert found.exemplars == memory.exemplars and found.images_seen == memory.images_seen
        manifest = json.loads((tmp_path / f'run/task_{task}/memory.json').read_text())
        names = run.test_data(task_config(cfg, task)).metainfo['classes']
        assert all(entry['class'] == names[entry['label']] for entry in manifest['exemplars'])
