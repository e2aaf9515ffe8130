"""A segmentor whose classes are not in its head: the engine asks the segmentor alone."""
import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from tiny import RESNET, network_run
from torch import nn

from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.models.losses import IGNORED
from ssul_mmseg.models.segmentors import IncrementalSegmentor
from ssul_mmseg.models.upsampling import upsample
from ssul_mmseg.prediction import Predictor
from ssul_mmseg.work_dir.weights import load_state


@MODELS.register_module()
class ClassEmbeddings(IncrementalSegmentor):
    """Each class is a learned vector beside the head, compared with the features of the pixels; the trunk is frozen."""

    def __init__(self, **segmentor):
        super().__init__(**segmentor)
        head = self.decode_head
        self.embeddings = nn.ParameterDict({
            name: torch.randn(len(head.channels_of([name])), head.channels) for name in head.names})
        head.classifiers = nn.ModuleDict()  # whoever asks it for logits fails

    def init_weights(self):
        self.backbone.init_weights()

    @property
    def trunk_fixed(self):
        return True

    def frozen_modules(self):
        return self.trunk_modules() if self.task else []

    def start_task(self, old):
        self.load_state_dict({**self.state_dict(), **old.weights})

    def logits(self, features):
        every = torch.cat([self.embeddings[name] for name in self.decode_head.names])
        return torch.einsum('bdhw,cd->bchw', F.normalize(features, dim=1), every)

    def losses(self, batch):
        logits = upsample(self.logits(batch.features), batch.targets.shape[1:])
        return dict(loss=F.cross_entropy(logits, batch.targets, ignore_index=IGNORED))

    def predict_by_feat(self, features, input_size, data_samples):
        return self.predict_by_logits(self.logits(features), input_size, data_samples)


@pytest.mark.parametrize('cache', [None, dict(views=1)], ids=['no cache', 'cache'])
def test_two_tasks_are_learned_and_predicted(tmp_path, cache):
    head = dict(type='IncrementalFCNHead', in_channels=32, in_index=3, channels=8, num_convs=1,
                norm_cfg=dict(type='BN'))
    cfg = network_run(tmp_path, dict(type='ClassEmbeddings', backbone=RESNET, decode_head=head), feature_cache=cache)
    document = run_scenario(cfg)
    assert [len(task['classes']) for task in document['tasks']] == [19, 1]
    base, later = (load_state(tmp_path / f'work/task_{task}/weights.pth')['state_dict'] for task in (0, 1))
    assert {key for key in base if not torch.equal(base[key], later[key])} == {
        f'embeddings.{name}' for name in ('background', 'task_0', 'unknown')}
    assert set(later) - set(base) == {'embeddings.task_1'} and later['embeddings.task_1'].shape == (1, 8)
    found = Predictor(cfg, 1).predict(tmp_path / 'voc/JPEGImages/2007_000000.jpg')
    assert found.labels.shape == (24, 32)
