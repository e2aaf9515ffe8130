"""From a folder to a run, by tools/new_dataset.py."""
import json
import runpy

import numpy as np
import pytest
from PIL import Image
from tiny import ROOT

from ssul_mmseg.datasets.new_dataset import default_scenario
from ssul_mmseg.engine.check_data import check_data
from ssul_mmseg.engine.run import Run
from ssul_mmseg.errors import InputError
from ssul_mmseg.options import read_config

PALETTE = {'background': (0, 0, 0), 'cat': (200, 0, 0), 'dog': (0, 0, 200)}


@pytest.fixture
def tool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return runpy.run_path(str(ROOT / 'tools/new_dataset.py'))['main']


def write(root, split, count, make):
    for folder in ('images', 'masks'):
        (root / split / folder).mkdir(parents=True, exist_ok=True)
    for place in range(count):
        labels = np.zeros((6, 8), np.uint8)
        labels[1:3, 1:4] = place % 2 + 1
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(root / split / f'images/{place}.jpg')
        make(labels).save(root / split / f'masks/{place}.png')


def coloured(labels):
    return Image.fromarray(np.array([*PALETTE.values()], np.uint8)[labels])


def indexed(labels):
    image = Image.fromarray(labels)
    image.putpalette([value for colour in PALETTE.values() for value in colour])
    return image


def stretched(labels):
    return Image.fromarray((labels * 100).astype(np.uint8))


@pytest.mark.parametrize(('make', 'classes', 'converted'), [
    (Image.fromarray, ('background', 'class_1', 'class_2'), False),
    (indexed, ('background', 'class_1', 'class_2'), False),
    (stretched, ('background', 'class_100', 'class_200'), True), (coloured, ('background', 'cat', 'dog'), True)])
def test_a_folder_becomes_a_config_that_a_training_accepts(tool, tmp_path, capsys, make, classes, converted):
    root = tmp_path / 'data/pets'
    for split in ('train', 'test'):
        write(root, split, 4, make)
    lines = [' '.join(map(str, (*colour, name))) for name, colour in PALETTE.items()]
    (tmp_path / 'colours.txt').write_text('\n'.join(lines) + '\n')
    tool(['data/pets', *(['--palette', 'colours.txt'] if make is coloured else [])])
    out = tmp_path / 'configs/mine/pets_1-1.py'
    assert f'next: ssul check-data configs/mine/{out.name}' in capsys.readouterr().out
    assert len(out.read_text().splitlines()) <= 15
    cfg = read_config('configs/mine/pets_1-1.py')
    data = cfg.train_dataloader.dataset.dataset
    assert tuple(data.metainfo.classes) == classes and cfg.saliency == 'ground_truth' and cfg.data_root == 'data/pets'
    assert data.data_prefix.seg_map_path == 'train/masks' + ('_labels' if converted else '')
    if make in (indexed, coloured):
        assert data.metainfo.palette == [list(colour) for colour in PALETTE.values()]
    cfg.work_dir = 'work'
    assert check_data(Run(cfg)).faults == []


def test_images_that_lie_together_are_divided_and_coco_is_drawn(tool, tmp_path):
    write(tmp_path / 'flat', '.', 10, Image.fromarray)
    (tmp_path / 'names.txt').write_text('cat\ndog\n')
    tool(['flat', '--names', 'names.txt', '--out', 'flat.py', '--scenario', '1-1', '--base',
          str(ROOT / 'configs/ssul/shapes_4-1.py')])
    assert (tmp_path / 'flat/test.txt').read_text() == '4\n9\n'
    cfg = read_config('flat.py')
    assert cfg.train_dataloader.dataset.dataset.ann_file == 'train.txt' and cfg.crop_size == (64, 64)
    cfg.work_dir = 'work'
    assert check_data(Run(cfg)).faults == []
    for split in ('train', 'val'):
        (tmp_path / f'coco/images/{split}').mkdir(parents=True)
        Image.new('RGB', (8, 6)).save(tmp_path / f'coco/images/{split}/a.jpg')
        entries = [dict(id=i, image_id=1, category_id=i, area=4, segmentation=[[i, 1, i + 2, 1, i + 2, 3, i, 3]])
                   for i in (1, 4)]
        (tmp_path / f'coco/{split}.json').write_text(json.dumps(dict(
            images=[dict(id=1, file_name='a.jpg', height=6, width=8)], annotations=entries,
            categories=[dict(id=1, name='cat'), dict(id=4, name='dog')])))
    tool(['coco', '--out', 'coco.py'])
    cfg = read_config('coco.py')
    cfg.work_dir = 'work'
    assert check_data(Run(cfg)).faults == [] and tuple(cfg.train_dataloader.dataset.dataset.metainfo.classes) == (
        'background', 'cat', 'dog')


@pytest.mark.parametrize(('arguments', 'words'), [
    (['none'], 'there is no folder none'), (['data', '--scenario', '5-1'], "scenario '5-1' starts with 5 classes"),
    (['data', '--scenario', '1-1', '--base', 'none.py'], 'there is no config none.py'),
    (['data', '--palette', 'two.txt'], r'holds the colour \(0, 0, 200\) in column 1 of row 1'),
    (['data', '--out', 'there.py'], 'there.py is there already'),
    (['data', '--palette', 'odd.txt'], 'separates the columns'),
    (['data'], 'give --palette FILE')])
def test_bad_input_is_a_sentence_and_leaves_nothing(tool, tmp_path, arguments, words):
    for split in ('train', 'test'):
        write(tmp_path / 'data', split, 4, coloured)
    colours = [f'{" ".join(map(str, colour))} {name}\n' for name, colour in PALETTE.items()]
    (tmp_path / 'all.txt').write_text(''.join(colours))
    (tmp_path / 'two.txt').write_text(''.join(colours[:2]))
    (tmp_path / 'odd.txt').write_text(''.join(colours).replace('dog', 'd|og'))
    (tmp_path / 'there.py').write_text('')
    before = sorted(tmp_path.rglob('*'))
    if '--palette' not in arguments and 'FILE' not in words:
        arguments = [*arguments, '--palette', 'all.txt']
    with pytest.raises(InputError, match=words):
        tool(arguments)
    assert sorted(tmp_path.rglob('*')) == before


def test_the_default_scenario_begins_with_half_of_the_classes():
    assert [default_scenario(number) for number in (1, 2, 5, 8)] == ['1-1', '1-1', '3-1', '4-1']
