"""What the values and colours of masks mean."""
import numpy as np
import pytest
from PIL import Image

from ssul_mmseg.datasets.mask_kinds import check_number, convert, meaning_of, read_palette
from ssul_mmseg.errors import InputError

RED, BLUE, WHITE = (200, 0, 0), (0, 0, 200), (255, 255, 255)


@pytest.fixture
def grey(tmp_path):
    def write(*rows, palette=None):
        (tmp_path / 'masks').mkdir(exist_ok=True)
        paths = [tmp_path / f'masks/{place}.png' for place in range(len(rows))]
        for path, row in zip(paths, rows, strict=True):
            image = Image.fromarray(np.array([row], np.uint8))
            if palette:
                image.putpalette([value for colour in palette for value in colour])
            image.save(path)
        return paths
    return write


@pytest.fixture
def coloured(tmp_path):
    def write(*rows):
        (tmp_path / 'masks').mkdir(exist_ok=True)
        paths = [tmp_path / f'masks/{place}.png' for place in range(len(rows))]
        for path, row in zip(paths, rows, strict=True):
            Image.fromarray(np.array([row], np.uint8)).save(path)
        return paths
    return write


def test_values_from_1_on_stay_as_they_are(grey):
    found = meaning_of(grey([0, 1, 255], [2, 3]), None, None)
    assert found.classes == ['background', 'class_1', 'class_2', 'class_3'] and not found.values and not found.palette
    assert found.has_background and not meaning_of(grey([1, 2], [2, 3]), None, None).has_background


def test_an_indexed_mask_brings_its_colours(grey):
    found = meaning_of(grey([0, 1, 2], palette=[(0, 0, 0), RED, BLUE]), ['cat', 'dog'], None)
    assert found.classes == ['background', 'cat', 'dog'] and found.palette == [[0, 0, 0], [*RED], [*BLUE]]


def test_values_with_gaps_and_masks_of_black_and_white_are_converted(grey, tmp_path):
    masks = grey([0, 38, 255], [75, 0])
    found = meaning_of(masks, None, None)
    assert found.classes == ['background', 'class_38', 'class_75']
    convert(tmp_path / 'masks', masks, found, tmp_path / 'new')
    assert [np.array(Image.open(tmp_path / f'new/{i}.png')).tolist() for i in range(2)] == [[[0, 1, 255]], [[2, 0]]]
    found = meaning_of(grey([0, 255], [255, 255]), ['cat'], None)
    assert found.classes == ['background', 'cat'] and found.values == {255: 1}


@pytest.mark.parametrize(('names', 'background', 'classes'), [
    (['cat', 'dog'], True, ['background', 'cat', 'dog']),
    (['Background', 'cat', 'dog'], True, ['Background', 'cat', 'dog']),
    (['cat', 'dog', 'cow'], True, ['background', 'cat', 'dog', 'cow']),
    (['road', 'cat', 'dog'], False, ['road', 'cat', 'dog']), (None, False, ['class_0', 'class_1', 'class_2'])])
def test_0_is_background_unless_it_is_said_to_be_a_class(grey, names, background, classes):
    found = meaning_of(grey([0, 1, 2]), names, None, background)
    assert found.classes == classes and found.has_background == background and not found.values


def test_colours_are_named_by_a_palette(coloured, tmp_path):
    masks = coloured([(0, 0, 0), RED, WHITE], [BLUE, RED, RED])
    palette = tmp_path / 'palette.txt'
    palette.write_text('# a comment\n200 0 0 red cat\n\nblue dog, 0, 0, 200\n0 0 0 background\n255 255 255 ignore\n')
    found = meaning_of(masks, None, palette)
    assert found.classes == ['background', 'red cat', 'blue dog'] and found.palette == [[0, 0, 0], [*RED], [*BLUE]]
    convert(tmp_path / 'masks', masks, found, tmp_path / 'new')
    image = Image.open(tmp_path / 'new/1.png')
    assert np.array(image).tolist() == [[2, 1, 1]] and image.getpalette()[6:9] == [*BLUE]
    assert np.array(Image.open(tmp_path / 'new/0.png')).tolist() == [[0, 1, 255]]
    palette.write_text('200 0 0 cat\n0 0 200 dog\n0 0 0 road\n255 255 255 void\n')
    found = meaning_of(masks, None, palette)
    assert found.classes == ['cat', 'dog', 'road'] and not found.has_background
    convert(tmp_path / 'masks', masks, found, tmp_path / 'dense')
    assert np.array(Image.open(tmp_path / 'dense/0.png')).tolist() == [[2, 0, 255]]


def test_an_unknown_colour_is_a_sentence_and_nothing_is_left(coloured, tmp_path):
    masks = coloured([RED, RED], [RED, (1, 2, 3)])
    (tmp_path / 'palette.txt').write_text('200 0 0 cat\n')
    found = meaning_of(masks, None, tmp_path / 'palette.txt')
    with pytest.raises(InputError, match=r'masks/1.png holds the colour \(1, 2, 3\) in column 1 of row 0, which the'):
        convert(tmp_path / 'masks', masks, found, tmp_path / 'new')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['masks', 'palette.txt']


def test_faults_are_sentences(grey, coloured, tmp_path):
    with pytest.raises(InputError, match=r'hold colours \(\(200, 0, 0\)\); give --palette FILE'):
        meaning_of(coloured([RED]), None, None)
    (tmp_path / 'palette.txt').write_text('200 0 0 cat\n')
    with pytest.raises(InputError, match='leave out --no-background'):
        meaning_of(coloured([RED]), None, tmp_path / 'palette.txt', background=False)
    masks = [*coloured([RED], [RED])]
    Image.fromarray(np.array([[1]], np.uint8)).save(masks[1])
    with pytest.raises(InputError, match=r'0.png holds colours, but .*1.png holds values'):
        meaning_of(masks, None, None)
    with pytest.raises(InputError, match='hold no class, only 0'):
        meaning_of(grey([0, 0]), None, None)
    with pytest.raises(InputError, match="hold the value 3, but the last name is that of the value 2, 'dog'"):
        meaning_of(grey([0, 3]), ['cat', 'dog'], None)
    (tmp_path / 'palette.txt').write_text('200 0 0 cat\n')
    with pytest.raises(InputError, match='names colours, but the masks hold values; give their names with --names'):
        meaning_of(grey([0, 3]), None, tmp_path / 'palette.txt')
    (tmp_path / 'masks/0.png').write_bytes(b'no image')
    with pytest.raises(InputError, match=r'0.png is damaged or no image'):
        meaning_of([tmp_path / 'masks/0.png'], None, None)
    (tmp_path / 'new').mkdir()
    with pytest.raises(InputError, match='new is there already'):
        convert(tmp_path / 'masks', [], meaning_of(grey([0, 7]), None, None), tmp_path / 'new')
    with pytest.raises(InputError, match='there are 300 classes'):
        check_number(['x'] * 300)


@pytest.mark.parametrize(('text', 'words'), [
    ('', 'names no colour'), ('1 2 cat', "line 1 of palette .* is '1 2 cat'"), ('1 2 3', 'line 1 of palette'),
    ('1 2 300 cat', 'line 1'), ('1 2 3 a\n1 2 3 b', 'line 2 of palette .* repeats'),
    ('1 2 3 a\n4 5 6 a', 'line 2 .* repeats')])
def test_a_palette_of_another_form_is_refused(tmp_path, text, words):
    (tmp_path / 'palette.txt').write_text(text)
    with pytest.raises(InputError, match=words):
        read_palette(tmp_path / 'palette.txt')
    with pytest.raises(InputError, match='cannot be read'):
        read_palette(tmp_path / 'none.txt')
