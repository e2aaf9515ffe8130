"""A plain mmseg network becomes task 0, and a class is added to it."""
import runpy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from PIL import Image
from test_adopted import PREPROCESSOR, plain_config
from test_heads_of_mmseg import network
from tiny import ROOT, network_run

from ssul_mmseg.engine.adopt import adopt
from ssul_mmseg.engine.export import load_network
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.models.portable import PortableNetwork
from ssul_mmseg.solver.from_softmax import undecided_bias
from ssul_mmseg.work_dir.weights import load_state

VOC = ['background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
       'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor']


def checkpoint(folder, classes, names=True, name='FCNHead', **meta):
    """A plain network, and the file of its checkpoint."""
    torch.manual_seed(0)
    config = plain_config(name, len(classes))
    plain = MODELS.build(ConfigDict(config)).eval()
    with torch.no_grad():
        features = plain.decode_head._forward_feature(plain.extract_feat(torch.randn(4, 3, 64, 64)))
        filters = plain.decode_head.conv_seg
        torch.nn.init.normal_(filters.weight)
        filters.bias.zero_()
        filters.weight *= 3 / filters(features).std(dim=(0, 2, 3)).view(-1, 1, 1, 1)
        filters.bias -= filters(features).mean(dim=(0, 2, 3))
    meta = {'cfg': f'model = {config!r}', **meta}
    if names:
        meta['dataset_meta'] = dict(classes=list(classes))
    folder.mkdir(exist_ok=True)
    torch.save({'state_dict': plain.state_dict(), 'meta': meta}, folder / 'plain.pth')
    return plain, folder / 'plain.pth'


@pytest.fixture
def cfg(tmp_path):
    return network_run(tmp_path, dict(network('FCNHead'), data_preprocessor=PREPROCESSOR))


def logits(work_dir, images):
    with torch.no_grad():
        return PortableNetwork(load_network(work_dir, 0).model, merge=False).grid_logits(images)


IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255


def test_the_scores_are_those_of_the_formula_and_the_winner_stays(cfg, tmp_path):
    # The names are in another order than in the config.
    names = [VOC[0], *reversed(VOC[1:20])]
    plain, file = checkpoint(tmp_path / 'plain', names)
    said = adopt(cfg, file)
    assert 'background is kept' in said[0] and said[1] == 'its logits are those of the plain network'
    found = logits(cfg.work_dir, IMAGES)
    with torch.no_grad():
        old = plain((IMAGES - 120) / 60)[:, [0, *range(19, 0, -1)]]
    expected = 20 / 19 * (old - old.mean(1, keepdim=True)) - torch.tensor(19.).log()
    torch.testing.assert_close(found[:, :-1], expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(found[:, :-1].argmax(1), old.argmax(1)) and len(old.argmax(1).unique()) > 3
    torch.testing.assert_close(found[:, -1], torch.full_like(found[:, -1], undecided_bias(20)))


def test_background_is_made_where_there_was_none(cfg, tmp_path):
    plain, file = checkpoint(tmp_path / 'plain', VOC[1:20], names=False)
    assert 'background is made' in adopt(cfg, file)[0]
    found = logits(cfg.work_dir, IMAGES)
    with torch.no_grad():
        old = plain((IMAGES - 120) / 60)
    assert torch.equal(found[:, 1:-1].argmax(1), old.argmax(1))
    assert (found[:, 0] == found[:, -1]).all() and found[:, 0].std() == 0


def photographs(folder):
    """Files of the images of a ``voc_tree``, and their pixels (B, 3, H, W)."""
    files = sorted(map(str, (folder / 'JPEGImages').glob('*.jpg')))
    return files, torch.from_numpy(np.stack([np.array(Image.open(file)) for file in files])).permute(0, 3, 1, 2).float()


def error(plain, work_dir, pixels):
    """Cross-entropy of an adopted network's scores with the plain one's softmax."""
    with torch.no_grad():
        shares = plain((pixels - 120) / 60).softmax(1)
    return F.binary_cross_entropy_with_logits(logits(work_dir, pixels)[:, :-1], shares).item()


def test_images_bring_the_scores_nearer_to_the_softmaxs(cfg, tmp_path):
    plain, file = checkpoint(tmp_path / 'plain', VOC[:20])
    images, pixels = photographs(tmp_path / 'voc')
    errors = {}
    for name, given in (('alone', []), ('images', images)):
        cfg.work_dir = str(tmp_path / name)
        said = adopt(cfg, file, given)
        errors[name] = error(plain, cfg.work_dir, pixels)
    assert errors['images'] < errors['alone'] and '40 images' in said[-1]


def test_the_backbones_map_is_normalised_beside_the_features_and_harms_no_score(cfg, tmp_path):
    plain, file = checkpoint(tmp_path / 'plain', VOC[:20])
    images, pixels = photographs(tmp_path / 'voc')
    cfg.work_dir = str(tmp_path / 'features')
    adopt(cfg, file, images)
    without = error(plain, cfg.work_dir, pixels)
    cfg.model.decode_head.skip, cfg.work_dir = True, str(tmp_path / 'none')
    with pytest.raises(InputError, match=r'skip normalises .* give some with --images'):
        adopt(cfg, file)
    assert not (tmp_path / 'none').exists()
    cfg.work_dir = str(tmp_path / 'beside')
    adopt(cfg, file, images)
    assert error(plain, cfg.work_dir, pixels) < without + 1e-3
    model = load_network(cfg.work_dir, 0).model
    with torch.no_grad():
        beside = model.trunk((pixels - 120) / 60)[:, model.decode_head.channels:]
    norm = model.decode_head.skip_norm
    torch.testing.assert_close(beside.mean((0, 2, 3)), torch.zeros_like(norm.running_mean), atol=1e-3, rtol=0)
    variance = beside.var((0, 2, 3))
    torch.testing.assert_close(variance, norm.running_var / (norm.running_var + norm.eps), atol=1e-3, rtol=1e-2)
    assert (variance > .1).sum() > 8


def test_a_class_is_added_to_an_adopted_network(cfg, tmp_path):
    _, file = checkpoint(tmp_path / 'plain', VOC[:20])
    cfg.work_dir = str(tmp_path / 'adopted')
    adopt(cfg, file)
    base = load_state(tmp_path / 'adopted/task_0/weights.pth')
    assert base['meta']['classes'] == VOC[1:20] and base['meta']['origin']['adopted']
    cfg.work_dir = str(tmp_path / 'run')
    document = run_scenario(cfg, start_from=tmp_path / 'adopted')
    assert [task['classes'] for task in document['tasks']] == [['tvmonitor']]
    later = load_state(tmp_path / 'run/task_1/weights.pth')['state_dict']
    changed = {key for key, value in base['state_dict'].items() if not torch.equal(value, later[key])}
    assert changed == {f'decode_head.classifiers.{name}.0.{kind}' for name in ('background', 'unknown')
                       for kind in ('weight', 'bias')}
    # In the adopted work dir itself the run goes on too.
    cfg.work_dir = str(tmp_path / 'adopted')
    run_scenario(cfg, range(1, 2))


@pytest.mark.parametrize(('classes', 'names', 'message'), [
    (VOC[:18], True, 'sofa is not in the checkpoint'), (VOC, True, 'tvmonitor is not in task 0'),
    (VOC, False, 'has 21 classes, but task 0 of the config has 19, or 20 with background')])
def test_classes_that_do_not_match_are_refused_and_nothing_is_left(cfg, tmp_path, classes, names, message):
    _, file = checkpoint(tmp_path / 'plain', classes, names)
    with pytest.raises(InputError, match=message):
        adopt(cfg, file)
    assert not (tmp_path / 'work').exists()


def test_a_network_that_computes_something_else_is_refused(cfg, tmp_path):
    _, file = checkpoint(tmp_path / 'plain', VOC[:20])
    cfg.model.backbone.dilations = (1, 1, 1, 1)
    with pytest.raises(InputError, match=r'does not describe the network.*strides, dilations'):
        adopt(cfg, file)
    assert not (tmp_path / 'work').exists()


def test_a_config_that_cannot_be_compared_is_reported(cfg, tmp_path):
    _, file = checkpoint(tmp_path / 'plain', VOC[:20], cfg=None)
    assert 'carries no config' in adopt(cfg, file)[1]
    _, file = checkpoint(tmp_path / 'plain', VOC[:20], cfg="model = dict(type='Missing', backbone=dict())")
    cfg.work_dir = str(tmp_path / 'other')
    assert 'cannot be built here' in adopt(cfg, file)[1]


def test_a_task_that_is_there_is_not_overwritten(cfg, tmp_path):
    _, file = checkpoint(tmp_path / 'plain', VOC[:20])
    adopt(cfg, file)
    with pytest.raises(InputError, match=r'task 0 is in .* already; choose another --out'):
        adopt(cfg, file)


def test_the_tool_reports_a_head_that_cannot_be_adopted(tmp_path):
    torch.save({'state_dict': {'decode_head.0.conv_seg.weight': torch.zeros(3, 4, 1, 1)}}, tmp_path / 'a.pth')
    main = runpy.run_path(str(ROOT / 'tools/adopt.py'))['main']
    with pytest.raises(InputError, match=r'the head of .*a\.pth cannot be adopted'):
        main([str(ROOT / 'configs/ssul/shapes_4-1.py'), str(tmp_path / 'a.pth'), '--out', str(tmp_path / 'work')])
    torch.save({'state_dict': {'decode_head.classifiers.task_0.0.weight': torch.zeros(3, 4, 1, 1)}}, tmp_path / 'a.pth')
    with pytest.raises(InputError, match=r'a\.pth is of a run of this package, which needs no adoption'):
        main([str(ROOT / 'configs/ssul/shapes_4-1.py'), str(tmp_path / 'a.pth'), '--out', str(tmp_path / 'work')])
    assert not (tmp_path / 'work').exists()


def test_the_tool_ends_with_the_command_that_adds_classes(cfg, tmp_path, capsys, formatted_configs):
    _, file = checkpoint(tmp_path / 'plain', VOC[:20])
    cfg.pop('work_dir')
    cfg.dump(tmp_path / 'mine.py')
    main = runpy.run_path(str(ROOT / 'tools/adopt.py'))['main']
    main([str(tmp_path / 'mine.py'), str(file), '--out', str(tmp_path / 'out'), '--cfg-options', 'model.tau=0.8',
          'method=A and B'])
    assert capsys.readouterr().out.splitlines()[-1] == (
        f'add classes with: ssul train {tmp_path}/mine.py --start-from {tmp_path}/out --tasks 1 --cfg-options '
        "model.tau=0.8 'method=A and B'")
