"""From photographs to saliency maps that a task reads: detectors, files, resuming, bad input."""
import functools
import json
import os
import runpy
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from mmseg.registry import DATASETS
from onnx import TensorProto, helper
from PIL import Image
from tiny import ROOT, voc_tree

from ssul_mmseg.errors import InputError
from ssul_mmseg.saliency import maps as maps_module
from ssul_mmseg.saliency.classical import ClassicalDetector, _background, superpixel_saliency
from ssul_mmseg.saliency.maps import MANIFEST, salient_pixels, write_maps
from ssul_mmseg.saliency.network import DEVIATION, MEAN, NetworkDetector
from ssul_mmseg.saliency.photographs import by_id, choose, photographs_of, read_photograph
from ssul_mmseg.saliency.score import score_maps
from ssul_mmseg.scenario import UNKNOWN

TOOL = ROOT / 'tools/make_saliency.py'
RED = (220, 30, 30)
GREY = (90, 90, 90)


def red_network(path, inputs=((1, 3, 16, 24), ), channels=1, metadata=None, element=TensorProto.FLOAT, red=1.):
    """An ONNX network whose scores are the red channel minus the blue one of its input, with a second output."""
    weights = np.zeros((channels, 3, 1, 1), np.float32)
    weights[:, 0], weights[:, 2] = red, -1
    given = [helper.make_tensor_value_info(f'input{i}', element, shape) for i, shape in enumerate(inputs)]
    shape = (inputs[0][0], channels, *inputs[0][2:])
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ('map', 'other')]
    nodes = [helper.make_node('Conv', ['input0', 'weights'], ['map']), helper.make_node('Neg', ['map'], ['other'])]
    graph = helper.make_graph(nodes, 'red', given, results,
                              [helper.make_tensor('weights', TensorProto.FLOAT, weights.shape, weights.ravel())])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, str(path))
    return path


def photograph(path, size=(48, 72), box=(12, 24, 36, 60), colour=RED):
    """A photograph of a red box, rows box[0]:box[2] and columns box[1]:box[3], on grey; returns the box's pixels."""
    pixels = np.full((*size, 3), GREY, np.uint8)
    inside = np.zeros(size, bool)
    inside[box[0]:box[2], box[1]:box[3]] = True
    pixels[inside] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)
    return inside


@pytest.fixture
def folder(tmp_path):
    """Three photographs of a box."""
    for i in range(3):
        photograph(tmp_path / 'JPEGImages' / f'{i}.jpg', box=(12, 6 + 12 * i, 36, 36 + 12 * i))
    return tmp_path / 'JPEGImages'


@pytest.fixture
def network(tmp_path):
    return red_network(tmp_path / 'red.onnx')


def tool(*arguments, **options):
    """Run the tool; exit code and both streams."""
    found = subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, check=False,
                           cwd=ROOT, **options)
    return found.returncode, found.stdout, found.stderr


def map_of(out, name):
    return np.array(Image.open(out / f'{name}.png'))


def times(out):
    return {path.name: path.stat().st_mtime_ns for path in out.glob('*.png')}


# ---- what a detector makes of an image

def test_scores_are_normalised_resized_and_cut():
    scores = np.array([[-3, -3], [5, 5]], np.float32)
    # Normalised 0 and 1; bilinear to four rows: 0, 0.25, 0.75, 1.
    assert salient_pixels(scores, (4, 3), 0.5).tolist() == [[0] * 3, [0] * 3, [255] * 3, [255] * 3]
    assert salient_pixels(scores, (4, 3), 0.2).tolist() == [[0] * 3, [255] * 3, [255] * 3, [255] * 3]
    with np.errstate(all='raise'):
        assert not salient_pixels(np.full((2, 2), 7, np.float32), (4, 3), 0.5).any()


def test_network_gets_rgb_normalised_by_mean_and_deviation(tmp_path, network):
    image = np.full((32, 48, 3), (200, 100, 50), np.uint8)
    expected = (200 / 255 - MEAN[0]) / DEVIATION[0] - (50 / 255 - MEAN[2]) / DEVIATION[2]
    found = NetworkDetector(network).detect(image)
    assert found.shape == (16, 24)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # Metadata of the file stands above ImageNet's values, arguments above metadata.
    own = red_network(tmp_path / 'own.onnx', metadata=dict(mean='[0.5, 0.5, 0.25]', std='[1, 1, 2]'))
    expected = (200 / 255 - 0.5) / 1 - (50 / 255 - 0.25) / 2
    np.testing.assert_allclose(NetworkDetector(own).detect(image), expected, rtol=1e-5)
    found = NetworkDetector(own, mean=(0, 0, 0), deviation=(1, 1, 1)).detect(image)
    np.testing.assert_allclose(found, 150 / 255, rtol=1e-5)


def test_opencv_runs_the_same_network(network, monkeypatch):
    image = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    expected = NetworkDetector(network).detect(image)
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    opencv = functools.partial(NetworkDetector, mean=MEAN, deviation=DEVIATION)
    np.testing.assert_allclose(opencv(network, size=(16, 24)).detect(image), expected, atol=1e-5)
    # It reads neither the input's size nor the metadata, which may hold other values than ImageNet's.
    for given in (dict(mean=MEAN, deviation=DEVIATION), dict(size=(16, 24), mean=MEAN)):
        with pytest.raises(InputError, match=r'OpenCV does not say .*--size HEIGHT WIDTH, --mean and --deviation '
                                             r'\(ImageNet.s: --mean 0.485 .*\), or install onnxruntime: pip'):
            NetworkDetector(network, **given)
    with pytest.raises(InputError, match='OpenCV cannot read the network'):
        opencv(TOOL, size=(16, 24))
    with pytest.raises(InputError, match=r'first output of .* is 1 x 2 x 16 x 24 float32'):
        opencv(red_network(network.parent / 'two.onnx', channels=2), size=(16, 24))


def test_a_network_of_no_numbers_is_refused_and_an_image_of_one_colour_is_empty(tmp_path):
    with pytest.raises(InputError, match=r'red.onnx are no finite numbers for an image of noise; give a whole'):
        NetworkDetector(red_network(tmp_path / 'red.onnx', red=np.nan))
    # As of a network that divides by the range of its scores, 0 here.
    assert not salient_pixels(np.full((2, 2), np.nan, np.float32), (4, 3), 0.5).any()


def test_size_that_a_network_leaves_open(tmp_path):
    free = red_network(tmp_path / 'free.onnx', inputs=(('batch', 3, 'height', 'width'), ))
    assert NetworkDetector(free, size=(20, 10)).detect(np.zeros((40, 40, 3), np.uint8)).shape == (20, 10)
    with pytest.raises(InputError, match='leaves its input size open'):
        NetworkDetector(free)


@pytest.mark.parametrize(('made', 'message'), [
    (dict(inputs=((1, 4, 16, 24), )), 'is 1 x 4 x 16 x 24, but|does not run'),
    (dict(inputs=((1, 3, 16, 24), (1, 2))), r'the inputs of .* are input0 .*, input1 .*, but .* has one'),
    (dict(inputs=((1, 3, 16), )), 'the inputs of|cannot be read as ONNX'),
    (dict(inputs=((2, 3, 16, 24), )), 'the input of .* is 2 x 3 x 16 x 24'),
    (dict(channels=2), 'first output of .* is 1 x 2 x 16 x 24 float32'),
    (dict(metadata=dict(mean='grey')), "the metadata 'mean' of .* is 'grey', not three numbers"),
])
def test_other_networks_are_refused(tmp_path, made, message):
    with pytest.raises(InputError, match=message):
        NetworkDetector(red_network(tmp_path / 'other.onnx', **made))


def test_files_that_are_no_network_are_refused(tmp_path, network):
    with pytest.raises(InputError, match=r'none.onnx cannot be read \(No such file'):
        NetworkDetector(tmp_path / 'none.onnx')
    network.write_bytes(network.read_bytes()[:40])
    with pytest.raises(InputError, match='cannot be read as ONNX'):
        NetworkDetector(network)
    with pytest.raises(InputError, match=r'--size is 8 8, but .* takes 16 x 24 only'):
        NetworkDetector(red_network(network), size=(8, 8))


@pytest.mark.parametrize('size', [(150, 200), (400, 600)])
def test_classical_detector_finds_an_object_that_differs_from_the_border(size):
    rng = np.random.default_rng(0)
    image = rng.normal((90, 120, 90), 6, (*size, 3))
    rows, columns = np.indices(size)
    disc = (rows - size[0] * 0.45)**2 + (columns - size[1] * 0.6)**2 < (size[0] * 0.25)**2
    image[disc] += (110, -60, -40)
    # Grass and sky cut by the object: both own the border, neither is an object.
    image[: size[0] // 3][~disc[: size[0] // 3]] += (40, 40, 100)
    image = image.clip(0, 255).astype(np.uint8)
    salient = salient_pixels(ClassicalDetector().detect(image), size, 0.5) > 0
    assert (salient & disc).sum() / (salient | disc).sum() > 0.85


def test_background_owns_the_border_by_hand():
    # Superpixels 0 and 1 at the border, of one colour, on both sides of 2, which is 50 apart: 0 and 1 are one region,
    # as the border is one ring. It owns 2 of the border for an area of 2: 1 - exp(-(2 / sqrt 2)^2 / 2); 2 owns none.
    apart = np.array([[0, 0, 50], [0, 0, 50], [50, 50, 0]], float)
    touch = np.array([[0, 0, 1], [0, 0, 1], [1, 1, 0]], bool)
    found = _background(apart, touch, np.array([0, 1]))
    np.testing.assert_allclose(found, [1 - np.exp(-1), 1 - np.exp(-1), 0], atol=1e-4)


def test_saliency_of_superpixels_by_hand():
    # Nine superpixels, the middle one 50 apart from the eight of the border.
    regions = np.arange(9).reshape(3, 3).repeat(4, 0).repeat(4, 1)
    lab = np.zeros((12, 12, 3), np.float32)
    lab[4:8, 4:8, 1] = 50
    # The border is background with 1 - exp(-(8 / sqrt 8)^2 / 2), without contrast to background; the middle is none.
    # Neighbours of one colour share with weight 1 + mu, others with mu. For corners a, edges b and the middle c:
    #   0.9817 a + 2.2 (a - b) = 0,   0.9817 b + 2.2 (b - a) + 0.1 (b - c) = 0,   c + 0.4 (c - b) = 1
    a, b, c = 0.02852, 0.04124, 0.72607
    np.testing.assert_allclose(superpixel_saliency(lab, regions), [a, b, a, b, c, b, a, b, a], rtol=1e-3)


def test_classical_detector_finds_nothing_in_nothing_and_takes_any_size():
    detector = ClassicalDetector()
    for size in ((1, 1), (1, 40), (7, 5), (120, 90)):
        scores = detector.detect(np.full((*size, 3), 99, np.uint8))
        assert np.isfinite(scores).all()
        assert not salient_pixels(scores, size, 0.5).any()


# ---- which photographs, and how they are read

def test_photographs_are_read_as_training_reads_them(tmp_path):
    colour = np.full((20, 30, 3), GREY, np.uint8)
    colour[:10, :15] = RED
    image = Image.fromarray(colour)
    image.convert('L').save(tmp_path / 'grey.png')
    image.convert('CMYK').save(tmp_path / 'cmyk.jpg', quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn by 90 degrees clockwise
    image.save(tmp_path / 'turned.jpg', exif=exif, quality=95)
    grey = read_photograph(tmp_path / 'grey.png')
    assert grey.shape == (20, 30, 3)
    assert (grey == grey[..., :1]).all()
    np.testing.assert_allclose(read_photograph(tmp_path / 'cmyk.jpg')[2, 2], RED, atol=12)
    turned = read_photograph(tmp_path / 'turned.jpg')
    assert turned.shape == (30, 20, 3)
    np.testing.assert_allclose(turned[2, -3], RED, atol=12)
    write_maps(NetworkDetector(red_network(tmp_path / 'red.onnx')), photographs_of(tmp_path), tmp_path / 'maps')
    assert map_of(tmp_path / 'maps', 'turned').shape == (30, 20)
    assert map_of(tmp_path / 'maps', 'turned')[:13, 12:].min() == 255
    assert map_of(tmp_path / 'maps', 'grey').shape == (20, 30)


def test_photographs_of_a_folder(tmp_path):
    for name in ('b.PNG', 'a.jpg', 'notes.txt', '.hidden.jpg', 'masks/c.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(photographs_of(tmp_path)) == ['a', 'b']
    (tmp_path / 'list').write_text('b\n\n')
    assert list(choose(photographs_of(tmp_path), tmp_path / 'list')) == ['b']
    (tmp_path / 'list').write_text('c\n')
    with pytest.raises(InputError, match='names c, which is no photograph here'):
        choose(photographs_of(tmp_path), tmp_path / 'list')
    with pytest.raises(InputError, match='itself holds no photograph'):
        photographs_of(ROOT)
    with pytest.raises(InputError, match='is no folder'):
        photographs_of(tmp_path / 'none')
    with pytest.raises(InputError, match=r'would both have the map x/a.png'):
        by_id(['x/a.jpg', 'x/a.png'], '.')


# ---- the files

def test_tool_writes_the_maps_where_a_task_reads_them(tmp_path, network):
    root = voc_tree(tmp_path / 'voc', num_images=20)
    for path in (root / 'SaliencyMap').iterdir():
        path.unlink()
    boxes = {path.stem: photograph(path, (24, 32), (6, 4 + i % 8, 18, 20 + i % 8))
             for i, path in enumerate(sorted((root / 'JPEGImages').iterdir()))}
    out = tmp_path / 'elsewhere'
    config = 'configs/ssul/voc_15-1.py'
    for extra, folder in (((), root / 'SaliencyMap'), (('--out', out, '--processes', 2), out)):
        code, stdout, stderr = tool(config, '--model', network, '--cfg-options', f'data_root={root}', *extra)
        assert code == 0, stderr
        assert f'20 maps made, 0 kept in {folder}' in stdout
        assert 'saliency maps 20/20 100%' in stderr
        for name, inside in boxes.items():
            found = map_of(folder, name)
            assert set(np.unique(found)) == {0, 255}
            assert ((found > 0) & inside).sum() / ((found > 0) | inside).sum() > 0.8
    option = f'train_dataloader.dataset.saliency_dir={out}'
    assert option in stdout
    assert {path.name: path.read_bytes() for path in out.glob('*.png')} == \
        {path.name: path.read_bytes() for path in (root / 'SaliencyMap').glob('*.png')}
    # The folder elsewhere alone is left: the data set of the first task reads what the tool has written.
    for path in (root / 'SaliencyMap').iterdir():
        path.unlink()
    from ssul_mmseg.options import read_config
    dataset = read_config(str(ROOT / config), dict([option.split('=')])).train_dataloader.dataset
    dataset.dataset.data_root = str(root)
    dataset.pipeline = dataset.pipeline[:3]
    dataset = DATASETS.build(dict(dataset, scenario=dict(name='15-1', num_classes=20), task=0))
    results = dataset[0]
    unknown = results['gt_seg_map'] == UNKNOWN
    salient = map_of(out, dataset.image_id(dataset.image_at(0)).removesuffix('.jpg')) > 0
    assert unknown.any()
    assert (unknown <= salient).all()


def test_maps_lie_beside_a_folder_and_are_scored(folder, network, capsys):
    main = runpy.run_path(str(TOOL))['main']
    masks, out = folder.parent / 'masks', folder.parent / 'SaliencyMap'
    masks.mkdir()
    main([str(folder), '--model', str(network)])
    for name in ('0', '1'):
        Image.fromarray((map_of(out, name) > 0).astype(np.uint8) * 3).save(masks / f'{name}.png')
    main([str(folder), '--model', str(network), '--score', str(masks)])
    made, kept, score = capsys.readouterr().out.splitlines()
    assert made == f'3 maps made, 0 kept in {out}'
    assert kept == f'0 maps made, 3 kept in {out}'
    assert score == ('foreground IoU 1.0000, precision 1.0000, recall 1.0000 over 2 images; recall by value of the '
                     'masks: 3 1.00')


def test_score_by_hand(tmp_path):
    mask = np.array([[0, 0, 5, 5], [7, 7, 7, 255]], np.uint8)
    salient = np.array([[255, 0, 255, 0], [255, 255, 0, 255]], np.uint8)
    for place, values in (('masks', mask), ('maps', salient)):
        (tmp_path / place).mkdir()
        Image.fromarray(values).save(tmp_path / place / 'a.png')
    # Objects are 5 pixels, 3 of them salient; one pixel of background is salient; the ignored one does not count.
    assert score_maps(['a', 'b'], tmp_path / 'maps', tmp_path / 'masks').line() == (
        'foreground IoU 0.5000, precision 0.7500, recall 0.6000 over 1 images; recall by value of the masks: 5 0.50, '
        '7 0.67')
    with pytest.raises(InputError, match='no photograph has a mask'):
        score_maps(['b'], tmp_path / 'maps', tmp_path / 'masks')
    Image.fromarray(mask[:1]).save(tmp_path / 'masks/a.png')
    with pytest.raises(InputError, match=r'is 4 x 2 pixels, but mask .* is 4 x 1'):
        score_maps(['a'], tmp_path / 'maps', tmp_path / 'masks')


def test_damaged_photographs_are_named_and_the_others_get_their_maps(folder, network):
    whole = (folder / '1.jpg').read_bytes()
    (folder / '1.jpg').write_bytes(whole[:len(whole) // 2])
    (folder / '3.jpg').write_text('no image')
    code, _, stderr = tool(folder, '--model', network, '--processes', 2)
    assert code == 2
    last = stderr.strip().splitlines()[-1]
    assert last.startswith('error: 2 maps made, 0 kept')
    assert '2 of 4 photographs have none: ' in last
    assert str(folder / '1.jpg') in last
    assert str(folder / '3.jpg') in last
    out = folder.parent / 'SaliencyMap'
    assert sorted(times(out)) == ['0.png', '2.png']
    before = times(out)
    (folder / '1.jpg').write_bytes(whole)
    (folder / '3.jpg').unlink()
    assert write_maps(NetworkDetector(network), photographs_of(folder), out) == f'1 maps made, 2 kept in {out}'
    assert before.items() <= times(out).items()


def test_damaged_map_is_made_again(folder, network, tmp_path):
    out = tmp_path / 'maps'
    write_maps(NetworkDetector(network), photographs_of(folder), out)
    whole = (out / '1.png').read_bytes()
    (out / '1.png').write_bytes(whole[:-20])
    assert write_maps(NetworkDetector(network), photographs_of(folder), out).startswith('1 maps made, 2 kept')
    assert (out / '1.png').read_bytes() == whole


def test_killed_run_goes_on_where_it_was(tmp_path):
    for i in range(60):
        photograph(tmp_path / 'JPEGImages' / f'{i:02d}.jpg', size=(240, 320), box=(60, 80, 180, 200 + i))
    command = (tmp_path / 'JPEGImages', '--model', 'classical')
    out = tmp_path / 'SaliencyMap'
    process = subprocess.Popen([sys.executable, TOOL, *command], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(out.glob('*.png'))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = times(out)
    assert 3 <= len(before) < 60
    for name in before:
        assert map_of(out, name.removesuffix('.png')).shape == (240, 320)
    (out / '.07.png.1.tmp').touch()  # what a kill in the middle of a map leaves
    code, stdout, stderr = tool(*command)
    assert code == 0, stderr
    assert f'{60 - len(before)} maps made, {len(before)} kept' in stdout
    assert before.items() <= times(out).items()
    assert len(times(out)) == 60
    assert not list(out.glob('.*'))


def test_maps_of_two_detectors_are_not_mixed(folder, network, tmp_path):
    out = tmp_path / 'maps'
    photographs = photographs_of(folder)
    one = dict(list(photographs.items())[:1])
    write_maps(NetworkDetector(network), one, out)
    before, manifest = times(out), (out / MANIFEST).read_bytes()
    other = NetworkDetector(network, mean=(0, 0, 0))
    for refused, message in ((lambda: write_maps(ClassicalDetector(), photographs, out), "detector 'red.onnx', not"),
                             (lambda: write_maps(other, photographs, out), r'mean \[0.485.* not \[0, 0, 0\]'),
                             (lambda: write_maps(NetworkDetector(network), photographs, out, threshold=0.4),
                              'threshold 0.5, not 0.4')):
        with pytest.raises(InputError, match=message):
            refused()
    (tmp_path / 'new').mkdir()
    trained_on = NetworkDetector(red_network(tmp_path / 'new' / network.name, metadata=dict(epochs='2')))
    with pytest.raises(InputError, match='made with checksum'):
        write_maps(trained_on, photographs, out)
    assert times(out) == before
    assert (out / MANIFEST).read_bytes() == manifest
    assert write_maps(ClassicalDetector(), photographs, out, overwrite=True).startswith('3 maps made, 0 kept')
    assert json.loads((out / MANIFEST).read_text())['detector'] == 'classical'


def test_killed_overwrite_never_leaves_maps_under_the_name_of_another_detector(folder, network, tmp_path, monkeypatch):
    out = tmp_path / 'maps'
    write_maps(NetworkDetector(network), photographs_of(folder), out)

    def killed(path, content):
        raise KeyboardInterrupt

    monkeypatch.setattr(maps_module, 'write_json', killed)
    with pytest.raises(KeyboardInterrupt):
        write_maps(ClassicalDetector(), photographs_of(folder), out, overwrite=True)
    assert json.loads((out / MANIFEST).read_text())['detector'] == 'red.onnx'
    assert not times(out)


def test_files_of_others_are_left_alone(folder, network, tmp_path):
    detector, photographs = NetworkDetector(network), photographs_of(folder)
    foreign = tmp_path / 'foreign'
    foreign.mkdir()
    (foreign / '0.png').write_bytes(b'a map of another program')
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r'holds 1 PNG files such as 0.png but no detector.json'):
            write_maps(detector, photographs, foreign, overwrite=overwrite)
    assert (foreign / '0.png').read_bytes() == b'a map of another program'
    with pytest.raises(InputError, match='among the photographs'):
        write_maps(detector, photographs, folder)
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=r'cannot be made or read .*--out'):
        write_maps(detector, photographs, tmp_path / 'file/maps')


def test_second_process_is_kept_out(folder, network, tmp_path):
    detector, photographs = NetworkDetector(network), photographs_of(folder)
    with maps_module._lock(tmp_path / 'maps'), pytest.raises(InputError, match='another process writes maps'):
        write_maps(detector, photographs, tmp_path / 'maps')
    write_maps(detector, photographs, tmp_path / 'maps')


def test_process_that_dies_is_reported(folder, tmp_path):
    class Dying(ClassicalDetector):
        def detect(self, image):
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(InputError, match=r'a process that makes maps died .*lower --processes, then run the same'):
        write_maps(Dying(), photographs_of(folder), tmp_path / 'maps', processes=2)


def test_full_disk_is_reported_with_the_remedy_of_this_tool(folder, network, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(InputError, match='No space left on device') as error:
        write_maps(NetworkDetector(network), photographs_of(folder), tmp_path / 'maps')
    assert error.value.sentence.endswith('; free space or choose another folder with --out, then run the same command '
                                         'again: whole maps are kept')


@pytest.mark.parametrize(('arguments', 'message'), [
    (('--model', 'classical', '--size', '8', '8'), '--size, --mean and --deviation are of a network'),
    (('--model', 'classical', '--threshold', '1.5'), '--threshold is 1.5; it lies between 0 and 1'),
    (('--model', 'classical', '--processes', '0'), 'are positive'),
    (('--model', 'classical', '--cfg-options', 'a=1'), 'is none; leave it out'),
    (('--model', 'none.onnx'), 'network none.onnx cannot be read'),
    ((), 'the following arguments are required: --model'),
])
def test_bad_arguments(folder, arguments, message, capsys):
    main = runpy.run_path(str(TOOL))['main']
    with pytest.raises((SystemExit, InputError)) as error:
        main([str(folder), *arguments])
    assert message in (capsys.readouterr().err if error.type is SystemExit else error.value.sentence)
    assert not (folder.parent / 'SaliencyMap').exists()


def test_missing_packages_are_named_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, 'skimage.segmentation', None)
    with pytest.raises(InputError, match=r"pip install 'ssul_mmseg\[saliency\]'"):
        ClassicalDetector()
