"""What tools/check_data.py says of data, whole and faulty."""
import runpy

import numpy as np
import pytest
from PIL import Image
from tiny import ROOT, tiny_config, tiny_options, voc_tree

from ssul_mmseg.engine.check_data import check_data, shortened
from ssul_mmseg.engine.run import Run
from ssul_mmseg.errors import InputError

# A mask of 4 x 10 pixels by the rows of its columns; the saliency maps mark columns 0 to 3.
MASKS = {'a': [1, 1, 2, 0, 0, 0, 0, 0, 0, 255], 'b': [2, 1, 0, 0, 0, 0, 0, 0, 0, 0],
         'c': [2, 3, 3, 3, 3, 3, 0, 0, 0, 0],
         'd': [0] * 10}


@pytest.fixture
def data(tmp_path):
    """Three classes in four images."""
    for folder in ('JPEGImages', 'SegmentationClassAug', 'SaliencyMap', 'ImageSets/Segmentation'):
        (tmp_path / 'voc' / folder).mkdir(parents=True)
    for name, row in MASKS.items():
        mask = np.array([row] * 4, np.uint8)
        size = mask.shape if name != 'd' else (8, 10)
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / f'voc/JPEGImages/{name}.jpg')
        Image.fromarray(np.resize(mask, size)).save(tmp_path / f'voc/SegmentationClassAug/{name}.png')
        salient = np.zeros(size, np.uint8)
        salient[:, :4] = 255
        Image.fromarray(salient).save(tmp_path / f'voc/SaliencyMap/{name}.png')
    for split in ('train_aug', 'val'):
        (tmp_path / f'voc/ImageSets/Segmentation/{split}.txt').write_text('\n'.join(MASKS) + '\n')
    return tmp_path / 'voc'


def options(**more):
    classes = {f'{part}_dataloader.dataset.dataset.type': 'BaseSegDataset' for part in ('train', 'test')}
    classes |= {f'{part}_dataloader.dataset.dataset.metainfo': dict(classes=['background', 'cat', 'dog', 'cow'])
                for part in ('train', 'test')}
    return {**classes, 'scenario.name': '1-1', 'scenario.num_classes': 3, **more}


def checked(data, **more):
    return check_data(Run(tiny_config(data, data.parent / 'work', **options(**more))))


def rows(text, first):
    """Cells of the table that begins with a header."""
    found = next(part for part in text if part.startswith(f'| {first}'))
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in found.splitlines()[2:]]


def test_images_tasks_classes_and_shares_by_hand(data):
    found = checked(data)
    assert found.faults == []
    assert found.text[1] == ('Training images: 4, of 2 sizes from 10 x 4 to 10 x 8 pixels; 3 are of 10 x 4')
    # Task 0: a and b, 80 pixels. Cat 3 columns of 20; of the other 17 one is ignored and 5 are salient.
    assert rows(found.text, 'task') == [
        ['0', 'cat', '2', '15.0%', '55.0%', '25.0%', '5.0%'],
        ['1', 'dog', '3', '10.0%', '56.7%', '30.0%', '3.3%'],
        ['2', 'cow', '1', '50.0%', '40.0%', '10.0%', '0.0%']]
    assert rows(found.text, 'class') == [
        ['cat', '0', '2', '0', '6.00%', '2'], ['dog', '1', '3', '0', '6.00%', '3'],
        ['cow', '2', '1', '0', '10.00%', '1']]
    assert 'Never alone in an image, so that another class is always beside them: cat, dog, cow.' in found.text
    assert 'Fewer images than a batch, so that a batch repeats some: tasks 0, 1, 2.' in found.text


def test_settings_and_saliency_change_the_tasks(data):
    found = checked(data, **{'scenario.setting': 'sequential', 'saliency': None})
    # Images without a future class: none for cat, a and b for dog, which show cat too.
    assert rows(found.text, 'task') == [
        ['0', 'cat', '0', 'n/a', 'n/a', 'n/a', 'n/a'], ['1', 'dog', '2', '25.0%', '70.0%', '0.0%', '5.0%'],
        ['2', 'cow', '1', '60.0%', '40.0%', '0.0%', '0.0%']]
    assert len(found.faults) == 1 and found.faults[0].startswith('task 0 (cat) has no image in the sequential setting')


def test_all_faults_are_found_at_once(data):
    (data / 'JPEGImages/a.jpg').unlink()
    (data / 'SaliencyMap/b.png').write_bytes(b'no image')
    (data / 'SegmentationClassAug/c.png').write_bytes((data / 'SegmentationClassAug/c.png').read_bytes()[:40])
    Image.fromarray(np.full((8, 10), 9, np.uint8)).save(data / 'SegmentationClassAug/d.png')
    found = checked(data)
    for what in ('image .*a.jpg is missing', 'saliency map .*b.png is damaged', 'mask .*c.png',
                 'd.png holds the value 9', r'task 2 \(cow\) has no image'):
        with pytest.raises(AssertionError, match=what):
            raise AssertionError('\n'.join(found.faults))
    assert len(found.faults) == 5  # test and training images are the same


def test_files_that_no_task_uses_end_no_training(data):
    (data / 'JPEGImages/e.jpg').write_bytes(b'')
    (data / 'SegmentationClassAug/e.png').write_bytes((data / 'SegmentationClassAug/d.png').read_bytes())
    (data / 'ImageSets/Segmentation/train_aug.txt').write_text('\n'.join([*MASKS, 'e']) + '\n')
    found = checked(data)
    assert found.faults == [] and any('No task uses these images' in part and 'e.jpg is' in part for part in found.text)


@pytest.mark.parametrize('change', [{'scenario.num_classes': 4, 'scenario.name': '1-1'},
                                    {'train_dataloader.dataset.dataset.ann_file': 'none.txt'}])
def test_a_data_set_that_cannot_be_built_is_a_fault_beside_the_others(data, change):
    (data / 'JPEGImages/a.jpg').unlink()
    found = checked(data, **change)
    assert any('is about 4 classes' in fault or 'image list' in fault for fault in found.faults)
    if 'scenario.num_classes' not in change:
        assert any('a.jpg is missing' in fault for fault in found.faults)  # of the test images


def test_all_left_over_files_are_named(data):
    change = {f'{part}_dataloader.dataset.dataset.ann_file': '' for part in ('train', 'test')}
    (data / 'JPEGImages/a.jpg').unlink()
    for name in 'bc':
        (data / f'SegmentationClassAug/{name}.png').unlink()
    faults = checked(data, **change).faults
    assert len(faults) == 3 and [fault.split()[1][-5:] for fault in faults] == ['b.jpg', 'c.jpg', 'a.png']


def test_the_tool_ends_with_2_where_a_training_would_fail_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    root = voc_tree(tmp_path / 'voc')
    monkeypatch.chdir(tmp_path)
    before = sorted(root.rglob('*'))
    main = runpy.run_path(str(ROOT / 'tools/check_data.py'))['main']
    command = [str(ROOT / 'configs/ssul/voc_15-1.py'), '--cfg-options',
               *(f'{key}={value}' for key, value in tiny_options(root).items())]
    main(command)
    assert 'Nothing is missing or damaged.' in capsys.readouterr().out
    assert sorted(root.rglob('*')) == before and [path.name for path in tmp_path.iterdir()] == ['voc']
    for path in sorted((root / 'JPEGImages').iterdir())[:3]:
        path.unlink()
    with pytest.raises(InputError, match=r'3 faults in the data of .*voc_15-1.py; mend what is listed above'):
        main(command)
    shown = capsys.readouterr().out
    assert shown.count('.jpg is missing') == 3 and shown.count('restore it') == 1


def test_hundreds_of_one_fault_are_counted_and_all_are_listed_on_request():
    faults = [*(f'map {number} is missing; make it' for number in range(21)), 'image x is damaged; mend it']
    assert shortened(faults, 5) == [
        'map 0 is missing; make it', *(f'map {number} is missing' for number in range(1, 5)),
        'and 16 more of this kind (--all shows them)', 'image x is damaged; mend it']
    assert len(shortened(faults)) == 22 and len(shortened(faults[1:], 5)) == 21


def test_without_saliency_maps_nothing_is_said_of_unknown(data):
    for path in (data / 'SaliencyMap').iterdir():
        path.unlink()
    found = checked(data)
    assert next(row[3:] for row in rows(found.text, 'task')) == ['15.0%', 'n/a', 'n/a', '5.0%']
    assert 'ssul make-saliency' in found.faults[0]
