"""A learned network is taken elsewhere and predicts there what it predicts here."""
import json
import os
import runpy
import subprocess
import sys

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny import ROOT, tiny_config, voc_tree

from ssul_mmseg.engine import export as export_module
from ssul_mmseg.engine.export import export, load_network
from ssul_mmseg.engine.recorded_config import read_recorded_config
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.models.portable import PortableNetwork
from ssul_mmseg.prediction import Predictor
from ssul_mmseg.scenario import BACKGROUND, IGNORE, UNKNOWN
from ssul_mmseg.work_dir.weights import load_state, save_weights

MAIN = runpy.run_path(str(ROOT / 'tools/export.py'))['main']


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc', 20, size=(45, 64))


@pytest.fixture(scope='module')
def work_dir(tree, tmp_path_factory):
    """Two learned tasks, whose scores are spread, so that masks show many labels."""
    work_dir = tmp_path_factory.mktemp('learned') / 'run'
    run_scenario(tiny_config(tree, work_dir, **{'scenario.name': '19-1', 'train_cfg.max_epochs': 1}))
    learned = load_network(work_dir, 1)
    network, head = PortableNetwork(learned.model, merge=False), learned.model.decode_head
    torch.manual_seed(0)
    with torch.no_grad():
        features = learned.model.trunk(network.normalised(pixels_of(tree)))
        for name in head.names:
            filters = head.filters(name)
            torch.nn.init.normal_(filters.weight)
            filters.bias.zero_()
            # Around 0 and of size 1, so that each channel is the largest somewhere.
            filters.weight /= filters(features).std(dim=(0, 2, 3)).view(-1, 1, 1, 1)
            filters.bias -= filters(features).mean(dim=(0, 2, 3))
    save_weights(work_dir / 'task_1/weights.pth', learned.model.state_dict(), learned.weights.classes,
                 learned.weights.palette, 1, learned.weights.origin)
    return work_dir


def pixels_of(tree):
    """All images, float (B, 3, H, W), RGB."""
    images = [np.array(Image.open(path)) for path in sorted((tree / 'JPEGImages').glob('*.jpg'))]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()


@pytest.fixture(scope='module')
def own_masks(tree, work_dir):
    """What the network itself predicts, unknown as its own label."""
    predictor = Predictor(read_recorded_config(work_dir), 1)
    masks = []
    for path in sorted((tree / 'JPEGImages').glob('*.jpg')):
        results = predictor.prepare(predictor.load(dict(img_path=str(path), seg_fields=[])))
        sample, = predictor.model.test_step(dict(inputs=[results['inputs']], data_samples=[results['data_samples']]))
        masks.append(sample.pred_sem_seg.data[0].numpy())
    assert len(np.unique(masks)) > 4 and UNKNOWN in masks[0]
    return np.stack(masks)


def stock(checkpoint, tree, folder):
    """Masks of mmseg's inferencer and of ``inference_model``, and what its test loop found, without this package."""
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tests/stock_process.py'), str(checkpoint), str(tree / 'JPEGImages'), str(tree),
         str(folder)], capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / 'found.json').read_text())
    assert found['blocked']
    with np.load(folder / 'masks.npz') as masks:
        return masks['inferred'], masks['modelled'], found


def miou(masks, tree, num_classes):
    """Mean IoU in percent of masks, the ignored border left out."""
    union, common = np.zeros(num_classes), np.zeros(num_classes)
    for mask, path in zip(masks, sorted((tree / 'SegmentationClassAug').glob('*.png')), strict=True):
        truth = np.array(Image.open(path))
        for label in range(num_classes):
            ours, theirs = (mask == label) & (truth != IGNORE), truth == label
            union[label] += (ours | theirs).sum()
            common[label] += (ours & theirs).sum()
    return 100 * (common / union).mean()


def test_mmseg_alone_predicts_the_same_masks_with_unknown_kept(work_dir, tree, own_masks, tmp_path, formatted_configs):
    MAIN([str(work_dir), '--task', '1', '--to', 'mmseg', '--unknown', 'keep', '--out', str(tmp_path / 'kept.pth')])
    inferred, modelled, found = stock(tmp_path / 'kept.pth', tree, tmp_path)
    assert np.array_equal(inferred, np.where(own_masks == UNKNOWN, 21, own_masks))
    assert np.array_equal(modelled, inferred) and found['classes'][-2:] == ['tvmonitor', 'unknown']


@pytest.fixture(scope='module')
def reference(work_dir):
    return load_network(work_dir, 1).model


def test_mmseg_alone_predicts_unknown_as_background(work_dir, tree, own_masks, reference, tmp_path, formatted_configs):
    MAIN([str(work_dir), '--to', 'mmseg', '--out', str(tmp_path / 'merged.pth')])
    inferred, modelled, found = stock(tmp_path / 'merged.pth', tree, tmp_path)
    merged = np.where(own_masks == UNKNOWN, BACKGROUND, own_masks)
    # mmseg merges on the grid of the features, this package after upsampling: background may gain at borders.
    assert ((inferred == merged) | (inferred == BACKGROUND)).all() and (merged != BACKGROUND).any()
    network = PortableNetwork(reference, merge=True)
    with torch.no_grad():
        logits = F.interpolate(network.merged(network.grid_logits(pixels_of(tree))), size=(45, 64), mode='bilinear')
    assert (inferred != logits.argmax(1).numpy()).mean() < 1e-3
    assert np.array_equal(modelled, inferred) and found['classes'][-1] == 'tvmonitor' and len(found['classes']) == 21
    assert found['mIoU'] == pytest.approx(miou(inferred, tree, 21), abs=.01)


@pytest.mark.parametrize('unknown', ['merge', 'keep'])
def test_onnx_runs_in_two_engines_at_sizes_it_was_not_traced_at(work_dir, tree, reference, tmp_path, unknown):
    MAIN([str(work_dir), '--task', '1', '--to', 'onnx', '--unknown', unknown, '--out', str(tmp_path / 'a.onnx')])
    session = onnxruntime.InferenceSession(str(tmp_path / 'a.onnx'))
    network = PortableNetwork(reference, unknown == 'merge')
    for number, height, width in ((1, 45, 64), (3, 37, 51)):
        images = np.ascontiguousarray(pixels_of(tree)[:number, :, :height, :width].numpy())
        with torch.no_grad():
            expected = network(torch.from_numpy(images)).numpy()
        assert expected.shape == (number, 22 - (unknown == 'merge'), height, width) and expected.std() > .1
        found, = session.run(['logits'], {'image': images})
        np.testing.assert_allclose(found, expected, atol=1e-4)
        net = cv2.dnn.readNetFromONNX(str(tmp_path / 'a.onnx'))
        net.setInput(images)
        np.testing.assert_allclose(net.forward(), expected, atol=1e-4)
    names = {prop.key: json.loads(prop.value) for prop in onnx.load(tmp_path / 'a.onnx').metadata_props}
    assert names['classes'][0] == 'background' and len(names['classes']) == len(names['palette']) == expected.shape[1]


def test_torchscript_runs_without_this_package(work_dir, reference, tmp_path):
    MAIN([str(work_dir), '--task', '1', '--to', 'torchscript', '--out', str(tmp_path / 'a.pt')])
    script = ('import sys, torch; images = torch.load("images.pt"); '
              'torch.save(torch.jit.load("a.pt")(images), "logits.pt"); assert "ssul_mmseg" not in sys.modules')
    images = torch.rand(2, 3, 75, 51) * 255
    torch.save(images, tmp_path / 'images.pt')
    subprocess.run([sys.executable, '-c', script], check=True, cwd=tmp_path)
    with torch.no_grad():
        expected = PortableNetwork(reference, True)(images)
    torch.testing.assert_close(torch.load(tmp_path / 'logits.pt'), expected, atol=1e-4, rtol=0)
    extra = {'meta.json': ''}
    torch.jit.load(str(tmp_path / 'a.pt'), _extra_files=extra)
    assert json.loads(extra['meta.json'])['classes'][-1] == 'tvmonitor'


def test_the_checkpoint_holds_tensors_and_plain_values_alone(work_dir, tmp_path):
    said = export(work_dir, 0, 'mmseg', 'merge', tmp_path / 'a.pth')
    content = load_state(tmp_path / 'a.pth')
    assert len(content['meta']['dataset_meta']['classes']) == 20 and 'ssul' not in content['meta']['cfg'].lower()
    assert 'task 0' in said[0] and 'differ by at most' in said[1]


def test_a_form_that_changes_the_logits_is_refused_and_leaves_no_file(work_dir, tmp_path, monkeypatch):
    load = torch.jit.load

    def changed(content):
        network = load(content)
        return lambda images: network(images) + 1
    monkeypatch.setattr(torch.jit, 'load', changed)
    with pytest.raises(InputError, match='--to torchscript changes what this network computes'):
        export(work_dir, 1, 'torchscript', 'merge', tmp_path / 'a.pt')
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(work_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(InputError, match=r"needs the package onnx.*'ssul_mmseg\[export\]'"):
        export(work_dir, 1, 'onnx', 'merge', tmp_path / 'a.onnx')
    assert not list(tmp_path.iterdir())


def test_added_scores_are_refused(work_dir, tmp_path, monkeypatch):
    learned = load_network(work_dir, 1)
    learned.model.merge_unknown = 'scores'
    monkeypatch.setattr(export_module, 'load_network', lambda *_: learned)
    with pytest.raises(InputError, match=r'merge_unknown=scores.*--unknown keep'):
        export('', 1, 'torchscript', 'merge', tmp_path / 'a.pt')
    export('', 1, 'torchscript', 'keep', tmp_path / 'a.pt')


@pytest.mark.parametrize(('argument', 'message'), [
    ('missing', r'there is no run\.json'), ('task', 'has the tasks 0 to 1'), ('nothing', 'no learned task')])
def test_a_work_dir_without_the_task_is_refused(work_dir, tmp_path, argument, message):
    source = tmp_path / 'source'
    if argument == 'nothing':
        source.mkdir()
        (source / 'run.json').write_bytes((work_dir / 'run.json').read_bytes())
    folder = work_dir if argument == 'task' else source
    task = '2' if argument == 'task' else '1'
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools/export.py'), str(folder), '--task', task, '--to', 'mmseg', '--out',
         str(tmp_path / 'a.pth')], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2 and done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
    assert message.replace('\\', '') in done.stderr and not (tmp_path / 'a.pth').exists()
