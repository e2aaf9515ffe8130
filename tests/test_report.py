"""The page of runs: what it shows, what it leaves out and why, and how it looks in a browser."""
import base64
import copy
import csv
import io
import json
import re
import runpy
import shutil

import numpy as np
import pytest
from browser import BROWSER, browser
from examples import document
from PIL import Image
from tiny import ROOT, tiny_config, voc_tree

from ssul_mmseg.datasets.memory import Exemplar, ExemplarMemory
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.scenario_loop import run_scenario
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.prediction import Predictor
from ssul_mmseg.report import exemplars, figures, page, strips
from ssul_mmseg.report.collect import collect
from ssul_mmseg.report.page import write_report
from ssul_mmseg.report.pictures import IGNORED, STRIPE, label_map, photo
from ssul_mmseg.scenario import IGNORE, Scenario
from ssul_mmseg.work_dir.files import write_json

OPTIONS = {'scenario.name': '19-1', 'train_cfg.max_epochs': 1, 'memory.size': 21}
IMAGE = re.compile(r'<img src="data:image/(\w+)[^"]*" alt="([^"]*)"')


@pytest.fixture
def put(tmp_path):
    """A function that writes a work dir with results and a config, and returns it."""
    def write(name='run', content=None, **config):
        folder = tmp_path / name
        folder.mkdir()
        (folder / 'results.json').write_text(json.dumps(content or document()))
        (folder / 'run.json').write_text(json.dumps(config))
        return folder
    return write


@pytest.fixture(scope='module')
def learned(tmp_path_factory):
    """The config of a whole run of SSUL-M over VOC 19-1 on a few images, and its results."""
    folder = tmp_path_factory.mktemp('learned')
    cfg = tiny_config(voc_tree(folder / 'voc'), folder / 'work', 'configs/ssul/voc_15-1_m.py', **OPTIONS)
    return cfg, run_scenario(cfg)


@pytest.fixture(scope='module')
def written(learned, tmp_path_factory):
    """The page of that run."""
    return write_report([learned[0].work_dir], tmp_path_factory.mktemp('report'), images=3)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, as matplotlib has them."""
    found = []
    svg = figures._svg
    monkeypatch.setattr(figures, '_svg', lambda figure: found.append(figure) or svg(figure))
    return found


def decoded(uri):
    """The image that a data URI holds, as RGBA."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.partition(',')[2]))).convert('RGBA'))


def test_a_row_averages_seeds_and_sets_the_paper_beside(put):
    runs = [put(str(seed), document(seed, dataset='VOC', scenario=Scenario('15-1', 16), method='SSUL', shift=seed))
            for seed in (0, 2)]
    report = collect(runs)
    row, = report.rows
    assert (report.title, report.num_tasks, row.task) == ('VOC 15-1, overlapped', 2, 1)
    assert row.means('all') == {0: [80., 80.], 1: [71.186, 73.186]} and row.means('new') == {1: [41.5, 43.5]}
    assert page._comparison(report) == (
        ['method', 'base', 'new', 'all', 'seeds', 'base (paper)', 'new (paper)', 'all (paper)'],
        [['SSUL', '78.12 ± 1.41', '42.50 ± 1.41', '72.19 ± 1.41', '2', '77.31', '36.59', '67.61']])


def test_iou_over_tasks_is_empty_before_a_class_is_learned_and_where_none_is_known(put):
    other = document(1)
    other['tasks'][1]['IoU'].update(circle=70., star=10.)
    row, = collect([put('a'), put('b', other)]).rows
    assert row.classes == ['background', 'circle', 'square', 'star', 'ring', 'cross']
    expected = [[100, 100], [90, 80], [80, 80], [70, 10], [60, 57.5], [np.nan, 41.5]]
    np.testing.assert_array_equal(row.iou(), expected)


def test_confusion_is_the_share_of_each_class_over_the_pixels_of_all_runs(put):
    other = copy.deepcopy(document(1))
    other['tasks'][1]['confusion'][1] = [0, 0, 100, 0, 0, 0]
    row, = collect([put('a'), put('b', other)]).rows
    shares = row.confusion()
    np.testing.assert_allclose(shares[1], [0, .45, .5, 0, .05, 0])
    np.testing.assert_allclose(shares[4], [.05, .1, 0, 0, .85, 0])
    assert np.isnan(shares[3]).all()  # no pixel is a star
    assert page._mistakes(row) == [
        ['class', 'taken for', 'share in %'], ['circle', 'square', '50.00'], ['cross', 'square', '30.00'],
        ['square', 'cross', '20.00'], ['ring', 'circle', '10.00'], ['circle', 'ring', '5.00'],
        ['ring', 'background', '5.00']]


def test_time_and_memory_of_each_task_are_means_over_the_seeds(put):
    other = document(1)
    other['tasks'][0]['seconds'], other['tasks'][1]['peak_memory'] = 30., None
    row, = collect([put('a'), put('b', other)]).rows
    cells = page._task_cells(row)
    assert [line[-3:] for line in cells[1:]] == [['n/a', '1.00', '1.00'], ['3.60', '0.20', '0.50']]
    assert cells[1][:7] == ['0', 'circle, square, star and 1 more', '600', '0', '80.00', 'n/a', '80.00']


def test_results_of_an_earlier_version_are_shown_without_what_they_lack(put, tmp_path):
    old = document()
    for entry in old['tasks']:
        del entry['confusion'], entry['peak_memory']
    text = write_report([put(content=old)], tmp_path / 'out').read_text()
    assert 'that did not keep it' in text and 'did not keep how much memory' in text
    assert 'Most frequent mistakes' not in text and 'IoU of each class' in text


def test_a_run_that_is_still_going_is_shown_as_far_as_it_is(put, tmp_path):
    size = {'memory.size': 20}
    runs = [put('a', **size), put('b', document(1, finished=False), **size)]
    report = collect(runs)
    assert [row.final for row in report.rows] == [[document()['final']]] and report.rows[0].task == 0
    text = write_report(runs, tmp_path / 'out').read_text()
    assert 'SSUL-M, seed 1, has learned 1 of 2 tasks' in text and '<td>71.19</td>' in text
    text = write_report(runs[1:], tmp_path / 'only').read_text()
    assert '<td>n/a</td><td>n/a</td><td>n/a</td><td>0</td>' in text and 'mIoU per task' in text


def test_figures_without_data_are_left_out_with_a_sentence(put, tmp_path):
    text = write_report([put()], tmp_path / 'out').read_text()
    assert 'needs finished runs of at least two class orders' in text
    assert 'at least two memory sizes' in text and 'Left out: the run has no memory' not in text
    assert re.search(r'Left out: cannot read \S+/task_1/memory\.json', text)
    assert 'run.json does not hold the config of a run' in text  # no strips
    assert [kind for kind, _ in IMAGE.findall(text)] == ['svg'] * 5
    notes = (tmp_path / 'out/report.md').read_text()
    assert 'mIoU against memory size: Left out' in notes


def test_runs_of_several_memory_sizes_become_rows_and_a_line(put, tmp_path):
    none = document(method='SSUL', shift=-5)
    report = collect([put('a', **{'memory.size': 20}), put('b', document(shift=2), **{'memory.size': 40}),
                      put('c', none, memory=None)])
    assert [row.name for row in report.rows] == ['SSUL-M, 20 images', 'SSUL-M, 40 images', 'SSUL']
    chart = figures.memory_sizes(report.rows)
    assert chart.image and 'Left out' in figures.memory_sizes(report.rows[1:]).caption
    assert collect([put('d', **{'memory.size': 30})]).rows[0].name == 'SSUL-M'
    # Without a recorded config the exemplars that a task replays count.
    (put('e') / 'run.json').unlink()
    assert [run.memory_size for run in collect([tmp_path / 'd', tmp_path / 'e/results.json']).runs] == [30, 20]


def test_lines_are_means_over_seeds_with_a_band_of_all_values(put, drawn):
    report = collect([put('a'), put('b', document(1, shift=2))])
    assert 'a band' in figures.curves(report.rows).caption
    axes, = drawn.pop().axes
    assert {line.get_label(): line.get_xydata().tolist() for line in axes.lines} == {
        'base': [[0, 80], [1, pytest.approx(78.123)]], 'new': [[1, 42.5]],
        'all': [[0, 80], [1, pytest.approx(72.186)]]}
    band = axes.collections[2].get_paths()[0].vertices
    assert {round(y, 3) for x, y in band if x == 1} == {71.186, 73.186}
    more = collect([put('c'), put('d', document(method='SSUL', finished=False))])
    assert 'a band' not in figures.curves(more.rows).caption
    axes, = drawn.pop().axes
    assert {line.get_label(): line.get_xydata().tolist() for line in axes.lines} == {
        'SSUL-M': [[0, 80], [1, 71.186]], 'SSUL': [[0, 80]]}


def test_bars_are_minutes_and_gigabytes_of_each_task(put, drawn):
    rows = collect([put()]).rows
    for chart, expected in ((figures.time_per_task(rows), [1.5, .2]), (figures.memory_per_task(rows), [1, .5])):
        axes, = drawn.pop(0).axes
        assert chart.image and [bar.get_height() for bar in axes.patches] == expected


def test_a_line_over_memory_sizes_starts_at_the_method_without_one(put, drawn):
    runs = [('a', document(shift=2), 40), ('b', document(), 20), ('c', document(1, shift=1), 20)]
    paths = [put(name, content, **{'memory.size': size}) for name, content, size in runs]
    figures.memory_sizes(collect([*paths, put('d', document(method='SSUL', shift=-5), memory=None)]).rows)
    axes, = drawn.pop().axes
    (line, _, (bars, )), = axes.containers
    np.testing.assert_allclose(line.get_xydata(), [[0, 66.186], [20, 71.686], [40, 73.186]])
    np.testing.assert_allclose(bars.get_segments()[1][:, 1], [71.686 - .5**.5, 71.686 + .5**.5])


def test_matrices_hold_numbers_where_there_are_few_classes(put, drawn, monkeypatch):
    row, = collect([put()]).rows
    figures.iou_map(row)
    figures.confusion_map(row)
    iou, confusion = ([text.get_text() for text in figure.axes[0].texts] for figure in drawn)
    assert iou == ['100', '100', '90', '90', '80', '80', '70', '60', '58', '42']
    assert confusion == ['100', '90', '10', '80', '20', '5', '10', '85', '30', '70']
    assert [label.get_text() for label in drawn[1].axes[0].get_yticklabels()] == row.classes
    monkeypatch.setattr(figures, 'MOST_NUMBERS', 5)
    figures.confusion_map(row)
    assert not drawn[2].axes[0].texts


def test_class_orders_become_boxes_and_only_the_first_is_shown_in_detail(put, drawn):
    orders = [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]]
    runs = [put(str(i), document(scenario=Scenario('4-1', 5, order), shift=i)) for i, order in enumerate(orders)]
    report = collect(runs)
    assert [row.title for row in report.rows] == ['SSUL-M', 'SSUL-M, class order 5 4 3 2 1']
    assert report.first_order == report.rows[:1] and collect(runs[1:]).first_order[0].order
    chart = figures.class_orders(report.rows)
    assert chart.image and 'SSUL-M: 2' in chart.caption
    axes, = drawn.pop().axes
    points = axes.lines[-1].get_xdata()
    np.testing.assert_allclose(points, [71.186, 72.186])
    assert any(np.allclose(line.get_xdata(), 71.686) for line in axes.lines)  # the median
    assert not figures.class_orders(report.rows[:1]).image


def test_the_papers_numbers_stand_beside_its_memory_size_alone(put):
    content = document(dataset='VOC', scenario=Scenario('15-1', 16))
    report = collect([put(str(size), content, **{'memory.size': size}) for size in (50, 100)])
    assert [row.paper for row in report.rows] == [None, [78.36, 49.01, 71.37]]


def test_the_table_of_numbers_holds_every_value(put, tmp_path):
    run = put(**{'memory.size': 20})
    write_report([run], tmp_path / 'out')
    lines = list(csv.DictReader((tmp_path / 'out/report.csv').read_text().splitlines()))
    found = {(line['task'], line['measure'], line['of']): line['value'] for line in lines}
    assert found['1', 'IoU', 'ring'] == '57.5' and found['0', 'mIoU', 'new'] == '' and found['1', 'IoU', 'star'] == ''
    assert found['1', 'mIoU_no_background', 'base'] == '71.4' and found['0', 'peak_memory', ''] == str(2**30)
    assert len(lines) == 2 * (3 + 3 + 5) + 5 + 6
    assert {(line['method'], line['memory_size'], line['seed'], line['class_order']) for line in lines} == {
        ('SSUL-M', '20', '0', '1 2 3 4 5')}


def test_names_are_escaped(put, tmp_path):
    text = write_report([put('r\udcff', document(method='<b>|mine'))], tmp_path / 'out').read_text()
    assert '<b>|mine' not in text and '&lt;b&gt;|mine' in text and r'r\udcff: configs/x.py' in text
    assert r'<b>\|mine' in (tmp_path / 'out/report.md').read_text()


def test_the_same_runs_give_the_same_page(put, tmp_path):
    run = put()
    assert write_report([run], tmp_path / 'a').read_bytes() == write_report([run], tmp_path / 'b').read_bytes()


@pytest.mark.parametrize(('other', 'message'), [
    (document(1, dataset='VOC'), r'a is a run of shapes 4-1, overlapped, 5 classes, but .*b of VOC 4-1'),
    (document(1, scenario=Scenario('3-1', 5)), r'but .*b of shapes 3-1, overlapped, 5 classes; make a report for each'),
    (document(1, scenario=Scenario('4-1', 5, setting='disjoint')), r'but .*b of shapes 4-1, disjoint'),
    (document(1, scenario=Scenario('4-1', 6)), r'but .*b of shapes 4-1, overlapped, 6 classes'),
    (document(), r'b is a second run of SSUL-M .* with seed 0'),
    ({**document(1), 'schema': 2}, r'b/results\.json is no result file of schema 1'),
    ({**document(1), 'tasks': []}, r'b has learned no task yet'),
    (json.loads(json.dumps(document(1)).replace('circle', 'disc')), 'classes of different names'),
])
def test_runs_that_do_not_go_together_are_refused(put, tmp_path, other, message):
    with pytest.raises(InputError, match=message):
        write_report([put('a'), put('b', other)], tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_folders_without_results_are_refused(tmp_path, put):
    (tmp_path / 'a').mkdir()
    with pytest.raises(InputError, match=r'/a holds no results\.json; give a work dir of ssul train'):
        collect([tmp_path / 'a'])
    (put('b') / 'results.json').unlink()
    with pytest.raises(InputError, match=r'the run in .*/b has no results yet; wait'):
        collect([tmp_path / 'b'])
    with pytest.raises(InputError, match=r'cannot read .*nowhere'):
        collect([tmp_path / 'nowhere'])


def test_a_joint_run_stands_beside_one_of_tasks(put):
    joint = document(method='joint')
    joint['tasks'] = [{**joint['tasks'][1], 'task': 0, 'classes': ['circle', 'square', 'star', 'ring', 'cross']}]
    report = collect([put('a'), put('b', joint)])
    assert [row.task for row in report.rows] == [1, 0] and report.num_tasks == 2


def test_nothing_is_left_of_a_report_that_cannot_be_written(put, tmp_path):
    run = put()
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match=r'the folder .*file/out cannot be made .*--out'):
        write_report([run], tmp_path / 'file/out')
    (tmp_path / 'out/report.html').mkdir(parents=True)
    (tmp_path / 'out/report.html/x').write_text('')
    with pytest.raises(InputError, match=r'cannot write .*report\.html .*; free space, or choose .* --out'):
        write_report([run], tmp_path / 'out')
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['report.html']
    with pytest.raises(InputError, match='--images is -1'):
        write_report([run], tmp_path / 'new', -1)
    assert not (tmp_path / 'new').exists()


def test_an_interrupted_report_leaves_no_folder(put, tmp_path, monkeypatch):
    monkeypatch.setattr(page, 'markdown', lambda *args: exec('raise KeyboardInterrupt'))
    with pytest.raises(KeyboardInterrupt):
        write_report([put()], tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_label_map_shows_classes_in_their_colours_and_unknown_hatched():
    labels = np.array([[0, 1, 2, IGNORE]], np.uint8).repeat(4, 0)
    unknown = np.zeros((4, 4), bool)
    unknown[:, 0] = True
    picture = decoded(label_map(labels, [[0, 0, 0], [200, 0, 0], [0, 0, 200]], 40, unknown))
    assert picture.shape == (40, 40, 4)
    assert picture[5, 15].tolist() == [200, 0, 0, 255] and picture[5, 25].tolist() == [0, 0, 200, 255]
    assert picture[5, 35].tolist() == list(IGNORED)
    colours = {tuple(colour) for colour in picture[:, :10].reshape(-1, 4).tolist()}
    assert STRIPE in colours and any(alpha == 0 for *_, alpha in colours) and len(colours) == 2
    empty = decoded(label_map(np.zeros((10, 20), np.uint8), [[0, 0, 0]], 40))
    assert empty.shape == (20, 40, 4) and not empty[..., 3].any()


def test_a_photo_keeps_its_proportions():
    assert decoded(photo(Image.new('L', (300, 100)), 60)).shape == (20, 60, 4)


class Holding:
    """Test data of which a list says which labels each image holds."""

    def __init__(self, *images, classes=4):
        self.images, self.scenario, self.index = images, Scenario('2-1', classes), self
        self.label_table = np.arange(256)

    def with_any(self, values):
        return np.array([bool({*values} & {*image}) for image in self.images])


@pytest.mark.parametrize(('images', 'count', 'chosen'), [
    ([[1], [1, 2], [2, 3], [4], [1, 2]], 3, [1, 2, 3]),  # 2 of (1, 2) come first; then 3, then 4 alone is missing
    ([[1], [1, 2], [2, 3], [4], [1, 2]], 4, [1, 2, 3, 4]),  # all shown: both of the rest show none that is new
    ([[], [1], [1, 2]], 3, [2, 1, 0]),
    ([[3], [3]], 9, [0, 1]),
    ([[1]], 0, []),
])
def test_images_are_chosen_by_the_stated_rule(images, count, chosen):
    assert strips.choose_images(Holding(*images), count) == chosen


def test_the_page_of_a_real_run_holds_all_pictures(learned, written):
    cfg, results = learned
    text = written.read_text()
    found = IMAGE.findall(text)
    assert [kind for kind, _ in found].count('svg') == 5
    names = [label for _, label in found]
    assert sum(name.startswith('ground truth of') for name in names) == 3
    assert sum(name.startswith('prediction for') for name in names) == 3 * 2
    memory = ExemplarMemory.read(f'{cfg.work_dir}/task_1/memory.json')
    assert len(memory.exemplars) == 21 and {e.image for e in memory.exemplars} <= set(names)
    assert f'<td>{results["final"]["all"]:.2f}</td>' in text
    assert not re.search(r'(src|href)="(?!data:)', text)


def test_strips_show_what_the_networks_predict(learned):
    cfg, _ = learned
    run, = collect([cfg.work_dir]).runs
    shown = strips.strips_of(run, 2)
    data = Run(cfg).test_data(task_config(cfg, 0))
    palette = data.metainfo['palette']
    assert shown.tasks == [0, 1] and len(shown.strips) == 2
    assert shown.legend[0] == ('aeroplane', 'rgb(128, 0, 0)') and len(shown.legend) == 20
    image = strips.choose_images(data, 1)[0]
    assert shown.strips[0].image == data.image_id(image)
    path = data.source.get_data_info(image)['img_path']
    for task in (0, 1):
        found = Predictor(cfg, task).predict(path)
        assert found.unknown.shape == found.labels.shape and not found.labels[found.unknown].any()
        assert shown.strips[0].predictions[task] == label_map(found.labels, palette, strips.SIDE, found.unknown)
    # Five times as large as the mask of 24 x 32 pixels.
    truth, mask = decoded(shown.strips[0].truth), np.array(Image.open(data.source.get_data_info(image)['seg_map_path']))
    assert truth.shape == (120, 160, 4) and mask[7, 6] > 0 and mask[9, 6] == IGNORE
    assert truth[37, 32].tolist() == [*palette[mask[7, 6]], 255] and truth[47, 32].tolist() == list(IGNORED)


def test_exemplars_are_shown_by_class(learned, monkeypatch):
    cfg, _ = learned
    run, = collect([cfg.work_dir]).runs
    kept = ExemplarMemory.read(f'{cfg.work_dir}/task_1/memory.json').exemplars
    names = ['background', *Run(cfg).test_data(task_config(cfg, 0)).metainfo['classes'][1:]]
    expected = [(names[e.label], e.image) for e in sorted(kept, key=lambda e: (e.label, e.image))]
    found = exemplars.exemplars_of(run)
    assert [(part.name, image) for part in found for image, _ in part.images] == expected
    assert decoded(found[0].images[0][1]).shape[:2] == (24, 32)
    monkeypatch.setattr(exemplars, 'MOST', 0)
    assert [(len(part.images), part.more) for part in exemplars.exemplars_of(run)] == [
        (0, sum(e.label == label for e in kept)) for label in sorted({e.label for e in kept})]


def test_without_data_at_hand_pictures_are_left_out_with_a_sentence(learned, tmp_path):
    cfg, _ = learned
    work_dir = tmp_path / 'work'
    shutil.copytree(cfg.work_dir, work_dir)
    record = json.loads((work_dir / 'run.json').read_text())
    write_json(work_dir / 'run.json', {**record, 'data_root': str(tmp_path / 'nowhere')})
    text = write_report([work_dir], tmp_path / 'out').read_text()
    assert text.count('Left out: image list') == 2 and 'nowhere' in text and 'IoU of each class' in text
    write_json(work_dir / 'run.json', record)
    (work_dir / 'task_0/weights.pth').unlink()
    text = write_report([work_dir], tmp_path / 'out').read_text()
    assert re.search(r'Left out: weights .*task_0/weights\.pth are missing', text)
    assert 'Left out: --images is 0.' in write_report([work_dir], tmp_path / 'out', 0).read_text()


def test_a_missing_exemplar_is_named(learned, tmp_path):
    cfg, _ = learned
    work_dir = tmp_path / 'work'
    shutil.copytree(cfg.work_dir, work_dir)
    ExemplarMemory(21, exemplars=[Exemplar('gone.jpg', 1, 0, (1, ))], images_seen=1).write(
        work_dir / 'task_1/memory.json', ['background', 'aeroplane'])
    run, = collect([work_dir]).runs
    with pytest.raises(InputError, match=r'image \S+/JPEGImages/gone\.jpg cannot be read'):
        exemplars.exemplars_of(run)


def test_the_tool_prints_where_the_page_is(put, tmp_path, capsys):
    main = runpy.run_path(str(ROOT / 'tools/report.py'))['main']
    main([str(put()), '--out', str(tmp_path / 'out'), '--images', '0'])
    assert capsys.readouterr().out == f'the report is {tmp_path}/out/report.html\n'
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['report.csv', 'report.html', 'report.md']


def test_the_demo_ends_with_the_report_of_its_run():
    recipe = (ROOT / 'Makefile').read_text().split('\ndemo:')[1].split('\n\n')[0].splitlines()
    assert recipe[-1].endswith('tools/report.py work_dirs/demo --out work_dirs/demo/report')
    assert recipe[-2].endswith('--work-dir work_dirs/demo')


@pytest.mark.skipif(BROWSER is None, reason='there is no Chromium')
def test_a_browser_shows_the_page_wide_and_narrow_light_and_dark(written, tmp_path):
    colours = {}
    with browser() as opened:
        for width in (1280, 390):
            for dark in (False, True):
                opened.open(written, width, dark)
                assert opened.complaints() == [] and opened.requests() == []
                assert opened.ask('document.images.length') == len(IMAGE.findall(written.read_text())) > 30
                assert opened.ask('[...document.images].every(i => i.complete && i.naturalWidth > 0)')
                assert opened.ask('document.documentElement.scrollWidth <= innerWidth')
                # No text is so small that it has to be enlarged.
                assert opened.ask('Math.min(...[...document.querySelectorAll("p, td, th, figcaption")]'
                                  '.map(e => parseFloat(getComputedStyle(e).fontSize)))') >= 12
                colours[dark] = opened.ask('getComputedStyle(document.body).backgroundColor')
                opened.picture(tmp_path / 'page.png')
                corner = np.array(Image.open(tmp_path / 'page.png').convert('RGB'))[2, 2]
                assert corner.max() < 60 if dark else corner.min() > 240
    assert colours == {False: 'rgb(255, 255, 255)', True: 'rgb(16, 20, 24)'}


@pytest.mark.skipif(BROWSER is None, reason='there is no Chromium')
def test_a_page_that_complains_is_noticed(tmp_path):
    (tmp_path / 'page.html').write_text('<img src="nowhere.png"><script>console.error("x")</script>'
                                        '<div style="width:900px">x</div>')
    with browser() as opened:
        opened.open(tmp_path / 'page.html', 390)
        assert opened.complaints() and len(opened.requests()) == 1
        assert not opened.ask('[...document.images].every(i => i.complete && i.naturalWidth > 0)')
        assert not opened.ask('document.documentElement.scrollWidth <= innerWidth')
