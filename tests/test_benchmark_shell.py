"""The benchmark's commands are real ones."""
import numpy as np
import pytest
from PIL import Image
from speed.report import SECTIONS
from speed.settings import TINY, Options
from speed.shell import ADD, TRAIN, measure_shell, ring_images, run_command, shell_targets, take_turns
from tiny import ROOT

from ssul_mmseg.errors import InputError


def test_ring_images_mark_nothing_but_the_ring(tmp_path):
    shapes = tmp_path / 'shapes'
    for folder in ('SegmentationClass', 'JPEGImages'):
        (shapes / folder).mkdir(parents=True)
    for name, values in dict(train_0=[0, 5, 3, 255], train_1=[0, 3], train_2=[5], train_3=[5, 8], test_0=[5]).items():
        Image.fromarray(np.array([values], np.uint8)).save(shapes / f'SegmentationClass/{name}.png')
        (shapes / f'JPEGImages/{name}.jpg').write_text(name)
    assert ring_images(shapes, tmp_path / 'rings', most=2) == 2
    masks = {path.name: np.array(Image.open(path)).tolist() for path in (tmp_path / 'rings/masks').iterdir()}
    assert masks == {'train_0.png': [[0, 5, 0, 255]], 'train_2.png': [[5]]}
    assert sorted(path.name for path in (tmp_path / 'rings/images').iterdir()) == ['train_0.jpg', 'train_2.jpg']


def test_commands_take_turns_in_folders_of_their_own(tmp_path):
    seconds, folders = {'a': iter([(3., 1.), (1., 5.), (2., 2.)]), 'b': iter([(1., 1.)] * 3)}, []

    def command(name):
        return lambda folder: (folders.append((name, folder)), next(seconds[name]))[1]

    found = take_turns({'a': command('a'), 'b': command('b')}, tmp_path, 3)
    assert found == {'a': dict(median=2., min=1., max=3., processor=2.),
                     'b': dict(median=1., min=1., max=1., processor=1.)}
    assert [name for name, _ in folders] == ['a', 'b'] * 3 and len({folder for _, folder in folders}) == 6


def test_a_command_that_fails_is_reported_with_its_last_line(tmp_path):
    clock, processor = run_command(ROOT, 'compare.py', '--help')
    assert clock > 0 and processor > 0
    with pytest.raises(InputError, match=r'compare.py .*missing ended with code 2: .*missing'):
        run_command(ROOT, 'compare.py', tmp_path / 'missing')


def test_targets_by_hand():
    seconds = {**{name: dict(median=30.) for name in TRAIN}, **{name: dict(median=10.1) for name in ADD}}
    found = shell_targets(seconds)
    assert [(each['value'], each['most'], each['met']) for each in found] == [
        (30., 30, True), (30., 30, True), (10.1, 10, False), (10.1, 10, False)]
    assert not any('sgd' in each['what'] for each in found)


def test_all_commands_run_on_the_embedded_data_set():
    result = measure_shell(Options(ROOT / 'configs', TINY, 'cpu'))
    assert list(result['seconds']) == [*TRAIN, *ADD] and 5 < result['added_images'] <= 60
    for times in result['seconds'].values():
        assert 0 < times['min'] <= times['median'] <= times['max'] and times['processor'] > 0
    text = '\n'.join(SECTIONS['shell'](result))
    assert all(f'| {name} ' in text for name in result['seconds'])
