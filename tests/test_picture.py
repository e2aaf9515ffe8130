"""The picture of what runs predict: what is painted where, which columns it has, and what is refused."""
import numpy as np
import pytest
from PIL import Image
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.prediction import Predictor
from ssul_mmseg.report import picture
from ssul_mmseg.report.picture import draw_picture, paint
from ssul_mmseg.report.strips import choose_images, load_whole
from ssul_mmseg.scenario import IGNORE


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """The work dirs of two tiny runs over VOC 19-1: of SSUL, and of fine-tuning after its first task."""
    folder = tmp_path_factory.mktemp('runs')
    tree = voc_tree(folder / 'voc')
    options = {'scenario.name': '19-1', 'train_cfg.max_epochs': 1}
    ssul = tiny_config(tree, folder / 'ssul', **options)
    run_scenario(ssul)
    fine_tuning = tiny_config(tree, folder / 'fine_tuning', 'configs/fine_tuning/voc_15-1.py', **options)
    run_scenario(fine_tuning, [0])
    return ssul, fine_tuning


def test_classes_are_painted_over_the_photograph_and_unknown_is_striped():
    photo = np.full((1, 4, 3), 100, np.uint8)
    labels = np.array([[0, 1, IGNORE, 0]], np.uint8)
    palette = np.array([[9, 9, 9], [200, 0, 50]])
    unknown = np.array([[True, False, False, True]])
    painted = paint(photo, labels, palette, unknown)
    # 0.3 * 100 + 0.7 * (200, 0, 50); of a period of 4 pixels along a diagonal two are striped.
    assert painted[0].tolist() == [[255] * 3, [170, 30, 65], [round(30 + .7 * 224)] * 3, [100] * 3]


def test_a_picture_shows_ground_truth_and_the_chosen_tasks_of_each_run(runs, tmp_path, monkeypatch):
    drawn = {}
    draw = picture._draw

    def keep(titles, cells, legend):
        drawn.update(titles=titles, cells=cells, legend=legend)
        return draw(titles, cells, legend)
    monkeypatch.setattr(picture, '_draw', keep)
    ssul, fine_tuning = runs
    # fine-tuning first: columns stand in the order of the arguments, not in that of the methods' names.
    out = draw_picture([f'{fine_tuning.work_dir}:0', ssul.work_dir], tmp_path / 'new' / 'picture.png', images=2)
    assert drawn['titles'] == ['image', 'ground truth', 'fine-tuning\n19 classes', 'SSUL\n19 classes',
                               'SSUL\n+ tvmonitor']
    data = Run(ssul).test_data(task_config(ssul, 0))
    palette = np.array(data.metainfo['palette'])
    for row, image in enumerate(choose_images(data, 2)):
        whole = load_whole(data, image)
        photo = whole['img'][..., ::-1]
        assert np.array_equal(drawn['cells'][0][row], photo)
        assert np.array_equal(drawn['cells'][1][row], paint(photo, whole['gt_seg_map'], palette))
        for column, (cfg, task) in enumerate([(fine_tuning, 0), (ssul, 0), (ssul, 1)], start=2):
            found = Predictor(cfg, task).predict(whole['img_path'])
            assert np.array_equal(drawn['cells'][column][row], paint(photo, found.labels, palette, found.unknown))
    assert [name for name, _ in drawn['legend']] == list(data.metainfo['classes'][1:])
    with Image.open(out) as image:
        width, height = image.size
    assert width == round(5 * picture.CELL * picture.DPI) and height > 2 * picture.CELL * picture.DPI


@pytest.mark.parametrize(('argument', 'out', 'images', 'sentence'), [
    ('{ssul}:0,7', 'a.png', 4, r'has not learned task 7; it has learned 0, 1$'),
    ('{fine_tuning}:1', 'a.png', 4, r'has not learned task 1; it has learned 0$'),
    ('{ssul}', 'a.jpg', 4, r'--out is \S*a.jpg; give a file that ends in .png'),
    ('{ssul}', 'a.png', 0, r'--images is 0; give a positive number of images'),
    ('{ssul}/nowhere', 'a.png', 4, r'nowhere'),
    ('{ssul}', 'taken/a.png', 4, r'cannot write .*; free space, or choose another file with --out$'),
])
def test_what_cannot_be_drawn_is_refused(runs, tmp_path, argument, out, images, sentence):
    (tmp_path / 'taken').touch()
    argument = argument.format(ssul=runs[0].work_dir, fine_tuning=runs[1].work_dir)
    with pytest.raises(InputError, match=sentence):
        draw_picture([argument], tmp_path / out, images)
    assert not (tmp_path / out).exists()
