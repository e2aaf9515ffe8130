"""What tools/browse_labels.py shows is what a real run trains."""
import runpy

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from PIL import Image
from tiny import ROOT, tiny_config, tiny_options, voc_tree

from ssul_mmseg.datasets.label_sheet import SIDE, draw_labels
from ssul_mmseg.engine import browse_labels
from ssul_mmseg.engine.label_samples import task_labels
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.errors import InputError
from ssul_mmseg.methods.ssul import SSUL
from ssul_mmseg.scenario import IGNORE, UNKNOWN

TRAINED = []


@MODELS.register_module()
class RecordingSSUL(SSUL):
    """Notes the labels of every batch that it trains, as the loss gets them."""

    def losses(self, batch):
        TRAINED.append((self.task, self.decode_head.to_labels(batch.targets).numpy()))
        return super().losses(batch)

    def finish_task(self, loader):
        """Let the tiny network find classes, which it has hardly learned, so that there are pseudo-labels."""
        with torch.no_grad():
            for name in ('background', 'unknown'):
                self.decode_head.biases(name).sub_(20)
        return super().finish_task(loader)


def options(**more):
    """Old classes in the images of the new ones, and a tau that some pixels pass."""
    return {'scenario.name': '10-10', 'model.tau': .02, 'crop_size': (32, 40), 'train_dataloader.batch_size': 6, **more}


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc')


def crops(labels):
    return {sample.trained.tobytes() for sample in labels.samples}


@pytest.mark.parametrize('more', [{}, {'feature_cache': dict(views=2)}, {'memory': dict(size=20)},
                                  {'memory': dict(size=20), 'feature_cache': dict(views=2)}],
                         ids=['images', 'kept', 'memory', 'memory, kept'])
def test_the_labels_are_those_of_the_first_batch_of_a_run(tree, tmp_path, more):
    TRAINED.clear()
    cfg = tiny_config(tree, tmp_path / 'work', **options(**more, **{'model.type': 'RecordingSSUL'}))
    run_scenario(cfg)
    files = {path: path.read_bytes() for path in (tmp_path / 'work').rglob('*') if path.is_file()}
    for task in (0, 1):
        batch = next(labels for known, labels in TRAINED if known == task)
        shown = task_labels(Run(tiny_config(tree, tmp_path / 'work', **options(**more))), task, 6)
        for sample, trained in zip(shown.samples, batch, strict=True):
            assert np.array_equal(sample.trained, trained)
        assert [sample.replayed for sample in shown.samples] == [False] * 3 + [task > 0 and 'memory' in more] * 3
        pseudo = [sample.trained[sample.changed] for sample in shown.samples]
        found = np.unique(np.concatenate(pseudo)).tolist()
        assert (found and set(found) <= set(range(1, 11))) if task else not found
        assert task or UNKNOWN in np.unique(batch)
    assert files == {path: path.read_bytes() for path in (tmp_path / 'work').rglob('*') if path.is_file()}


def test_pictures_hold_image_mask_saliency_and_labels(tree, tmp_path, capsys):
    run_scenario(tiny_config(tree, tmp_path / 'work', **options(**{'model.type': 'RecordingSSUL'})), range(1))
    main = runpy.run_path(str(ROOT / 'tools/browse_labels.py'))['main']
    small = {**tiny_options(tree), **options()}
    main([str(ROOT / 'configs/ssul/voc_15-1.py'), '--task', '1', '--work-dir', str(tmp_path / 'work'), '--images', '3',
          '--out', str(tmp_path / 'out'), '--cfg-options', *(f'{key}={value}' for key, value in small.items())])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4 and printed[-1] == str(tmp_path / 'out/sheet.png') and 'pseudo-label' in printed[0]
    labels = task_labels(Run(tiny_config(tree, tmp_path / 'work', **options())), 1, 3)
    zoom = SIDE // 40
    for place, sample in enumerate(labels.samples):
        stem = f'{place:03d}_{sample.image.removesuffix(".jpg")}'
        values = np.array(Image.open(tmp_path / f'out/{stem}_labels.png'))
        assert np.array_equal(values, sample.trained)
        strip = np.array(Image.open(tmp_path / f'out/{stem}.png'))
        panes = [strip[28:28 + 32 * zoom, 8 + place * (40 * zoom + 8):][:, :40 * zoom] for place in range(4)]
        assert np.array_equal(panes[0][::zoom, ::zoom], sample.pixels)
        assert np.array_equal(panes[1], draw_labels(sample.mask, labels.palette, zoom=zoom))
        assert np.array_equal(panes[2][::zoom, ::zoom, 0] > 0, sample.salient)
        assert np.array_equal(panes[3], draw_labels(sample.trained, labels.palette, sample.changed, zoom))
        # By Eq. 1: unknown is salient and of no labelled class, and what is shown of a class is of the mask.
        assert sample.salient[sample.trained == UNKNOWN].all()
        own = (sample.trained > 10) & (sample.trained < UNKNOWN)
        assert np.array_equal(sample.trained[own], sample.mask[own])
        assert (sample.trained[sample.mask == IGNORE] == IGNORE).all()
    sheet = Image.open(tmp_path / 'out/sheet.png')
    assert sheet.height > 3 * 32 * zoom and sheet.width == strip.shape[1]


def test_without_the_old_model_there_are_no_pseudo_labels_and_it_is_said(tree, tmp_path, capsys):
    main = runpy.run_path(str(ROOT / 'tools/browse_labels.py'))['main']
    small = {**tiny_options(tree), **options()}
    main([str(ROOT / 'configs/ssul/voc_15-1_m.py'), '--task', '1', '--work-dir', str(tmp_path / 'none'),
          '--images', '1', '--out', str(tmp_path / 'out'), '--cfg-options',
          *(f'{key}={value}' for key, value in small.items())])
    printed = capsys.readouterr().out
    assert 'no pseudo-labels and no exemplars' in printed and 'none/task_0 holds no learned task' in printed
    assert not (tmp_path / 'none').exists()


def test_a_folder_that_cannot_be_written_keeps_nothing(tree, tmp_path, monkeypatch):
    cfg = tiny_config(tree, tmp_path / 'none', **options())
    labels, real, left = task_labels(Run(cfg), 0, 2), browse_labels.write_atomically, iter(range(3))

    def full(path, write):
        if next(left, None) is None:
            raise InputError('no space')
        real(path, write)
    monkeypatch.setattr(browse_labels, 'write_atomically', full)
    with pytest.raises(InputError, match='no space'):
        browse_labels.write_pictures(Run(cfg), 0, labels, tmp_path / 'out')
    assert list((tmp_path / 'out').iterdir()) == []
