"""Test-time augmentation: labels of mean probabilities, by hand and in a real run."""
import json
import runpy

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tiny import ROOT, tiny_config, tiny_model, tiny_options, voc_tree

from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import evaluate_task, run_scenario
from ssul_mmseg.engine.task_config import TTA_SCALES, network_config, task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.evaluation.metrics import IncrementalIoUMetric
from ssul_mmseg.options import read_config
from ssul_mmseg.scenario import UNKNOWN
from ssul_mmseg.work_dir.weights import load_state, save_state

CONFIG = str(ROOT / 'configs/ssul/voc_15-1.py')
TWO_TASKS = {'scenario.name': '19-1', 'train_cfg.max_epochs': 1}


def packed(views):
    """Loaded views of images, as mmengine collates them: a list for each view."""
    return dict(inputs=list(views), data_samples=[
        [SegDataSample(metainfo=dict(number=i, flip=flip, flip_direction='horizontal')) for i in range(len(view))]
        for flip, view in zip((False, True), views, strict=True)])


@pytest.mark.parametrize('merge_unknown', ['labels', 'scores'])
@pytest.mark.parametrize('loss', ['SigmoidBCELoss', 'SoftmaxCELoss'])
@torch.no_grad()
def test_labels_are_those_of_the_mean_probability(loss, merge_unknown):
    module = tiny_model([3], head=dict(loss_decode=dict(type=loss)), merge_unknown=merge_unknown)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in ((32, 24), (32, 24), (24, 40))]
    plain = [module.eval()(module.data_preprocessor(dict(inputs=[x]), False)['inputs'])
             for image in images for x in (image, image.flip(-1))]
    model = MODELS.build(dict(type='IncrementalTTAModel', module=module))
    found = model.eval().test_step(packed([images, [image.flip(-1) for image in images]]))
    assert [sample.number for sample in found] == [0, 1, 2]
    for place, (sample, image) in enumerate(zip(found, images, strict=True)):
        # The network gives logits on its grid: they are upsampled, and those of the flipped image turned back.
        scores = [torch.nn.functional.interpolate(logits, size=image.shape[1:], mode='bilinear')
                  for logits in plain[2 * place:2 * place + 2]]
        scores[1] = scores[1].flip(-1)
        mean = sum(x.sigmoid() if loss == 'SigmoidBCELoss' else x.softmax(1) for x in scores) / 2
        if merge_unknown == 'scores':
            mean = torch.cat([mean[:, :1] + mean[:, -1:], mean[:, 1:-1]], dim=1)
        expected = mean.argmax(1)
        labels = sample.pred_sem_seg.data
        assert labels.dtype == torch.uint8 and 'gt_sem_seg' not in sample
        assert torch.equal(labels, expected.masked_fill(expected == 4, UNKNOWN).byte())


@torch.no_grad()
def test_one_view_is_the_plain_prediction_with_its_ground_truth():
    module = tiny_model([3]).eval()
    images = [torch.randint(0, 256, (3, 32, 24), dtype=torch.uint8) for _ in range(2)]
    truth = PixelData(data=torch.ones(1, 20, 30, dtype=torch.uint8))
    plain = module.test_step(dict(inputs=images, data_samples=[SegDataSample(gt_sem_seg=truth) for _ in images]))
    model = MODELS.build(dict(type='IncrementalTTAModel', module=module))
    found = model.test_step(dict(inputs=[images], data_samples=[[SegDataSample(gt_sem_seg=truth) for _ in images]]))
    for one, other in zip(found, plain, strict=True):
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)
        assert torch.equal(one.gt_sem_seg.data, truth.data)


def test_views_predicted_at_several_sizes_are_refused():
    model = MODELS.build(dict(type='IncrementalTTAModel', module=tiny_model([3])))
    views = [SegDataSample(seg_logits=PixelData(data=torch.zeros(5, *size)), metainfo=dict(img_path='a.jpg'))
             for size in ((4, 4), (8, 8))]
    with pytest.raises(InputError, match=r'the views of a\.jpg .* \(4, 4\) and \(8, 8\); in tta_pipeline'):
        model.merge_preds([views])


@pytest.fixture(scope='module')
def learned(tmp_path_factory):
    """A tree, the work dir of a run of two tasks on it, and its config."""
    folder = tmp_path_factory.mktemp('tta')
    cfg = tiny_config(voc_tree(folder / 'voc'), folder / 'work', **TWO_TASKS)
    run_scenario(cfg)
    torch.manual_seed(0)
    for task in (0, 1):
        # Spread the scores: so early in training all is background.
        path = folder / f'work/task_{task}/weights.pth'
        state = load_state(path)
        for key in state['state_dict']:
            if '.classifiers.' in key and key.endswith('weight'):
                torch.nn.init.normal_(state['state_dict'][key], std=3)
        save_state(path, state)
    return folder, cfg


def scored_by_hand(cfg, views):
    """Metrics of task 1 by probabilities averaged over functions of an image, without any part of the package's TTA."""
    run, task_cfg = Run(cfg), task_config(cfg, 1)
    model = MODELS.build(network_config(cfg, 1).model).eval()
    model.load_state_dict(load_state(run.folder(1) / 'weights.pth')['state_dict'])
    data, metric = run.test_data(task_cfg), IncrementalIoUMetric(scenario=run.scenario, task=1)
    metric.dataset_meta = data.metainfo
    for place in range(len(data)):
        inputs, sample = data[place]['inputs'], data[place]['data_samples']
        total = 0
        for view, back in views:
            image = model.data_preprocessor(dict(inputs=[view(inputs)]), False)['inputs']
            with torch.no_grad():
                logits = torch.nn.functional.interpolate(model(image), size=image.shape[2:], mode='bilinear')
            total = total + back(logits).sigmoid()
        labels = (total / len(views)).argmax(1)
        metric.process(None, [dict(pred_sem_seg=dict(data=labels.masked_fill(labels == 21, UNKNOWN)),
                                   gt_sem_seg=dict(data=sample.gt_sem_seg.data))])
    return metric.compute_metrics(metric.results)


def test_the_tool_averages_over_the_views_of_the_config(learned, capsys):
    folder, cfg = learned
    *load, pack = read_config(CONFIG).to_dict()['test_dataloader']['dataset']['pipeline']
    flips = [[dict(type='ScaleAndFlip', flip=False), dict(type='ScaleAndFlip', flip=True)], [pack]]
    file = folder / 'flipped.py'
    file.write_text(f"_base_ = {CONFIG!r}\ntta_pipeline = {[*load, dict(type='TestTimeAug', transforms=flips)]}\n")
    main = runpy.run_path(str(ROOT / 'tools/test.py'))['main']
    options = {**tiny_options(folder / 'voc'), **TWO_TASKS}
    main([str(file), str(folder / 'work'), '--tta', '--json', '--cfg-options',
          *(f'{key}={value}'.replace(' ', '') for key, value in options.items())])
    found = json.loads(capsys.readouterr().out)
    plain = evaluate_task(Run(cfg), 1)
    expected = scored_by_hand(cfg, [(lambda x: x, lambda x: x), (lambda x: x.flip(-1), lambda x: x.flip(-1))])
    assert found['IoU'] == pytest.approx(expected['IoU']) and found['mIoU_all'] == pytest.approx(expected['mIoU_all'])
    assert found['IoU'] != pytest.approx(plain['IoU'])
    assert scored_by_hand(cfg, [(lambda x: x, lambda x: x)])['IoU'] == pytest.approx(plain['IoU'])
    # The tasks before were evaluated without: there is nothing to compare with.
    assert found['forgetting'] is None and plain['forgetting'] is not None


def test_a_pipeline_may_resize_and_flip_as_mmseg_does_before_labels_are_loaded(learned):
    folder, _ = learned
    flips = [dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob=1.)]
    mmseg = [dict(type='LoadImage'), dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale_factor=scale) for scale in (.5, 1.5)], flips, [dict(type='LoadLabels')],
        [dict(type='PackSegInputs')]])]
    ours = [dict(type='LoadImage'), dict(type='LoadLabels'), dict(type='TestTimeAug', transforms=[
        [dict(type='ScaleAndFlip', scale=scale, flip=flip) for scale in (.5, 1.5) for flip in (False, True)],
        [dict(type='PackSegInputs')]])]

    def evaluated(pipeline):
        cfg = tiny_config(folder / 'voc', folder / 'work', **TWO_TASKS)
        cfg.tta_pipeline = pipeline
        return evaluate_task(Run(cfg), 1, tta=True)['IoU']
    assert evaluated(mmseg) == pytest.approx(evaluated(ours))
    # Labels that are loaded first change size with the image.
    mmseg[1]['transforms'].insert(0, mmseg[1]['transforms'].pop(2))
    with pytest.raises(InputError, match='are predicted at several sizes'):
        evaluated(mmseg)


def test_without_a_pipeline_images_are_seen_in_mmsegs_scales_each_also_flipped(learned, monkeypatch):
    folder, _ = learned
    cfg = tiny_config(folder / 'voc', folder / 'work', **{**TWO_TASKS, 'feature_cache': dict(views=1)})
    seen, step = [], MODELS.get('SSUL').test_step

    def test_step(self, data):
        sample, = data['data_samples']
        seen.append((tuple(data['inputs'][0].shape[1:]), sample.flip))
        return step(self, data)
    monkeypatch.setattr(MODELS.get('SSUL'), 'test_step', test_step)
    metrics = evaluate_task(Run(cfg), 1, tta=True)
    sizes = [(round(24 * scale), ) * 2 for scale in TTA_SCALES]
    assert seen == [(size, flip) for size in sizes for flip in (False, True)] * 40
    assert 0 <= metrics['mIoU_all'] <= 100


def test_another_model_may_merge_and_a_wrong_one_is_named(learned):
    folder, _ = learned

    def evaluated(**options):
        cfg = tiny_config(folder / 'voc', folder / 'work', **{**TWO_TASKS, **options})
        return evaluate_task(Run(cfg), 0, tta=True)
    assert evaluated(tta_model=dict(type='IncrementalTTAModel'))['IoU'] == evaluated()['IoU']
    with pytest.raises(InputError, match=r'cannot be used .*NoModel'):
        evaluated(tta_model=dict(type='NoModel'))
