"""What a learned task leaves for the next."""
import torch
from mmseg.registry import MODELS
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.methods.ssul import SSUL
from ssul_mmseg.work_dir.weights import read_weights


@MODELS.register_module()
class Counting(SSUL):
    """Counts the images of each task's loader, and hands the sum down."""

    def start_task(self, old):
        super().start_task(old)
        self.before = old.state['images']

    def finish_task(self, loader):
        seen = sum(len(batch['inputs']) for batch in loader)
        return {'images': torch.tensor(seen) + getattr(self, 'before', 0)}


def test_a_methods_state_reaches_the_next_task_and_weights_name_what_they_were_learned_from(tmp_path):
    cfg = tiny_config(voc_tree(tmp_path / 'voc'), tmp_path / 'run', **{
        'scenario.name': '18-1', 'train_cfg.max_epochs': 1, 'model.type': 'Counting'})
    run_scenario(cfg)
    run, seen, digest = Run(cfg), 0, ''
    for task in run.tasks:
        learned = read_weights(tmp_path / f'run/task_{task}/weights.pth', task)
        dataset = run.train_data(task_config(cfg, task), task)
        seen += 4 * max(1, len(dataset) // 4)  # whole batches of four
        assert learned.method_state['images'] == seen
        assert learned.origin == {'old weights': digest, 'images': dataset.digest()}
        assert learned.classes == list(dataset.metainfo['classes'][1:run.scenario.seen(task).stop])
        assert learned.palette == dataset.metainfo['palette'][:run.scenario.seen(task).stop]
        digest = learned.digest
