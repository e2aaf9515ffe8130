import numpy as np
import pytest
from mmseg.registry import DATASETS
from PIL import Image
from tiny import ROOT, tiny_config, voc_tree

from ssul_mmseg.datasets.memory import ExemplarMemory
from ssul_mmseg.datasets.source import index_file
from ssul_mmseg.engine.run import Run
from ssul_mmseg.engine.task_config import task_config
from ssul_mmseg.errors import InputError
from ssul_mmseg.scenario import IGNORE, UNKNOWN, Scenario

VOC = dict(type='PascalVOCDataset', ann_file='ImageSets/Segmentation/train_aug.txt',
           data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'))
VOC_ROOT = ROOT / 'data/VOCdevkit/VOC2012'
PIPELINE = [dict(type='LoadImage'), dict(type='LoadLabels'), dict(type='LabelAugmentation')]


def build(root, task=0, scenario=None, pipeline=PIPELINE, setting='overlapped', **options):
    scenario = dict(name='15-1', num_classes=20, setting=setting) | (scenario or {})
    return DATASETS.build(dict(type='TaskDataset', dataset=dict(VOC, data_root=str(root)), pipeline=pipeline,
                               scenario=scenario, task=task, index_cache=str(root), **options))


def write_masks(root, contents):
    """Masks of one row that hold the given values, with images and saliency maps."""
    voc_tree(root, len(contents))
    for i, values in enumerate(contents):
        name = f'2007_{i:06d}'
        row = np.array([values], np.uint8)
        Image.fromarray(row).save(root / 'SegmentationClassAug' / f'{name}.png')
        Image.fromarray(np.zeros((*row.shape, 3), np.uint8)).save(root / 'JPEGImages' / f'{name}.jpg')
        Image.fromarray((row > 0).astype(np.uint8)).save(root / 'SaliencyMap' / f'{name}.png')
    return root


def images(dataset):
    return [image for image, _ in dataset._samples]


def test_settings_choose_images_by_their_classes(tmp_path):
    root = write_masks(tmp_path / 'voc', [[1, 0], [1, 16], [16, 17], [17, 255], [16, 20], [0, 0]])
    assert images(build(root, 0)) == [0, 1]
    assert images(build(root, 1)) == [1, 2, 4]
    assert images(build(root, 0, setting='disjoint')) == [0]
    assert images(build(root, 1, setting='disjoint')) == [1]
    assert images(build(root, 2, setting='disjoint')) == images(build(root, 2, setting='sequential')) == [2, 3]


def test_disjoint_follows_the_class_order(tmp_path):
    root = write_masks(tmp_path / 'voc', [[1, 20], [20, 0], [1, 0]])
    order = [20, *range(2, 20), 1]
    assert images(build(root, 0, dict(order=order), setting='disjoint')) == [1]
    assert images(build(root, 5, dict(order=order), setting='disjoint')) == [0, 2]


def test_labels_are_hidden_by_task_and_setting(tmp_path):
    root = write_masks(tmp_path / 'voc', [[0, 1, 16, 17, 255]])
    u = UNKNOWN
    assert build(root, 0)[0]['gt_seg_map'].tolist() == [[0, 1, u, u, IGNORE]]
    assert build(root, 1)[0]['gt_seg_map'].tolist() == [[0, u, 16, u, IGNORE]]
    assert build(root, 2, setting='sequential')[0]['gt_seg_map'].tolist() == [[0, 1, 16, 17, IGNORE]]


def test_a_class_order_renames_labels(tmp_path):
    root = write_masks(tmp_path / 'voc', [[0, 1, 20, 5, 255]])
    dataset = build(root, 0, dict(order=[20, *range(2, 20), 1]))
    assert dataset[0]['gt_seg_map'].tolist() == [[0, UNKNOWN, 1, 5, IGNORE]]
    assert dataset.metainfo['classes'][1] == 'tvmonitor' and dataset.metainfo['classes'][20] == 'aeroplane'
    assert dataset.metainfo['palette'][1] == [0, 64, 128] and dataset.metainfo['palette'][0] == [0, 0, 0]


def test_an_order_that_is_not_its_own_inverse_renames_labels(tmp_path):
    root = write_masks(tmp_path / 'voc', [[0, 1, 2, 5, 20, 255]])
    order = [20, 1, 2, *range(3, 20)]
    dataset = build(root, 0, dict(order=order))
    assert dataset[0]['gt_seg_map'].tolist() == [[0, 2, 3, 6, 1, IGNORE]]
    # A label's name and colour are those of the mask's value.
    named = build(root, 0).metainfo
    for label, value in ((1, 20), (2, 1), (3, 2), (6, 5)):
        assert dataset.metainfo['classes'][label] == named['classes'][value]
        assert dataset.metainfo['palette'][label] == named['palette'][value]


def test_test_images_show_all_classes(tmp_path):
    root = write_masks(tmp_path / 'voc', [[0, 1, 16, 17, 255], [20, 0, 0, 0, 0]])
    shown = build(root, 1, pipeline=PIPELINE[:2], test_mode=True)
    assert len(shown) == 2 and shown[0]['gt_seg_map'].tolist() == [[0, 1, 16, 17, IGNORE]]


def test_exemplars_follow_the_new_images(tmp_path):
    root = write_masks(tmp_path / 'voc', [[1, 16, 0], [16, 17, 1], [17, 0, 0]])
    memory = ExemplarMemory(5).update({1: ['2007_000000.jpg']}, task=0, seed=0)
    memory = memory.update({16: ['2007_000001.jpg']}, task=1, seed=0)
    memory.write(tmp_path / 'memory.json', ['background', *map(str, range(1, 21))])
    dataset = build(root, 2, exemplars=str(tmp_path / 'memory.json'), exemplar_labels='seen')
    assert (dataset.num_new, dataset.num_exemplars, images(dataset)) == (2, 2, [1, 2, 0, 1])
    assert dataset[2]['gt_seg_map'].tolist() == [[1, 16, 0]]
    assert dataset[3]['gt_seg_map'].tolist() == [[16, 17, 1]]
    # By default what D_{t-1} and D_{t-2} showed, no class that no task ever labelled in that image.
    dataset = build(root, 2, exemplars=str(tmp_path / 'memory.json'))
    assert dataset[2]['gt_seg_map'].tolist() == [[1, UNKNOWN, 0]]
    assert dataset[3]['gt_seg_map'].tolist() == [[16, UNKNOWN, UNKNOWN]]


def test_off_by_one_labels_only_exemplars_as_the_authors_code_does(tmp_path):
    """Its channels are [unknown, background, class 1, ...]; an exemplar's label counts as the channel of its number."""
    root = write_masks(tmp_path / 'voc', [[0, 1, 2, 16, 17, 18, 255], [17, 1, 0, 0, 0, 18, 255]])
    path = tmp_path / 'memory.json'
    ExemplarMemory(1).update({1: ['2007_000000.jpg']}, task=0, seed=0).write(path, build(root).metainfo['classes'])
    dataset = build(root, 2, exemplars=str(path), exemplar_labels='seen_off_by_one')
    own, exemplar = (dataset[position]['gt_seg_map'].tolist() for position in (1, 2))
    assert dataset.num_new == 2
    channels = {0: UNKNOWN, 1: 0, **{k: k - 1 for k in range(2, 18)}, IGNORE: IGNORE}
    shown = [0, 1, 2, 16, 17, 0, 255]  # 18 is a future class: background
    assert exemplar == [[channels[label] for label in shown]]
    assert own == [[17, UNKNOWN, 0, 0, 0, UNKNOWN, 255]]


def test_an_exemplar_stored_twice_shows_what_both_tasks_labelled(tmp_path):
    root = write_masks(tmp_path / 'voc', [[1, 2, 16, 17, 18], [17, 0, 0, 0, 0]])
    path = tmp_path / 'memory.json'
    memory = ExemplarMemory(1).update({1: ['2007_000000.jpg'], 2: ['2007_000000.jpg']}, task=0, seed=0)
    memory = memory.update({16: ['2007_000000.jpg']}, task=1, seed=0)
    memory.write(path, build(root).metainfo['classes'])
    assert build(root, 2, exemplars=str(path))[2]['gt_seg_map'].tolist() == [[1, 2, 16, UNKNOWN, UNKNOWN]]
    shown = build(root, 2, exemplars=str(path), exemplar_labels='seen')[2]['gt_seg_map']
    assert shown.tolist() == [[1, 2, 16, 17, UNKNOWN]]


def test_training_and_test_masks_in_folders_of_one_name_have_an_index_each(tmp_path):
    root = write_masks(tmp_path / 'voc', [[1, 0], [2, 0]])
    names = dict(classes=('background', 'a'), palette=[[0] * 3] * 2)

    def file(masks, listing=''):
        return index_file(str(tmp_path), DATASETS.build(dict(
            type='BaseSegDataset', data_root=str(root), ann_file=listing, metainfo=names,
            data_prefix=dict(img_path='JPEGImages', seg_map_path=masks))))
    masks, listing = 'SegmentationClassAug', VOC['ann_file']
    assert file(masks) == file(f'JPEGImages/../{masks}')
    assert len({file(masks), file(f'test/{masks}'), file(masks, listing)}) == 3


def test_an_exemplar_that_is_no_training_image_is_refused(tmp_path):
    root = voc_tree(tmp_path / 'voc')
    ExemplarMemory(5).update({1: ['other.jpg']}, 0, 0).write(tmp_path / 'memory.json', ['background', 'a'])
    with pytest.raises(InputError, match=r"'other\.jpg' .* is no image of the training set"):
        build(root, 1, exemplars=str(tmp_path / 'memory.json'))


def test_images_by_class(tmp_path):
    root = write_masks(tmp_path / 'voc', [[1, 2, 16], [2, 2, 0], [17, 0, 0]])
    found = build(root, 0).images_by_class()
    assert (found[1], found[2], found[3]) == (['2007_000000.jpg'], ['2007_000000.jpg', '2007_000001.jpg'], [])


def test_a_view_is_a_function_of_its_key(tmp_path):
    root = voc_tree(tmp_path / 'voc')
    pipeline = [*PIPELINE, dict(type='RandomScale'), dict(type='RandomFlip', prob=.5)]

    def view(key, **options):
        return build(root, 0, pipeline=pipeline, **options)[key]['img']
    assert np.array_equal(view((3, 1)), view((3, 1)))
    shapes = {view((3, v)).shape for v in range(6)} | {view((3, 0), seed=s).shape for s in range(6)}
    assert len(shapes) > 6


@pytest.mark.parametrize(('break_it', 'options', 'words'), [
    (lambda r: (r / 'JPEGImages/2007_000003.jpg').unlink(), {}, ['2007_000003.jpg', 'missing']),
    (lambda r: (r / 'SegmentationClassAug/2007_000003.png').unlink(), {}, ['2007_000003.png']),
    (lambda r: (r / 'SegmentationClassAug/2007_000003.png').write_bytes(b''), {}, ['2007_000003.png']),
    (lambda r: Image.new('L', (32, 24), 77).save(r / 'SegmentationClassAug/2007_000003.png'), {},
     ['2007_000003.png', 'value 77']),
    (lambda r: (r / 'ImageSets/Segmentation/train_aug.txt').unlink(), {}, ['train_aug.txt', 'README']),
    (lambda r: (r / 'ImageSets/Segmentation/train_aug.txt').write_text(''), {}, ['no image']),
    (lambda r: None, dict(scenario=dict(num_classes=21, name='15-1')), ['21', '20']),
    (lambda r: None, dict(setting='mixed'), ['mixed', 'overlapped']),
    (lambda r: None, dict(task=6), ['tasks 0 to 5']),
])
def test_bad_data_end_in_one_sentence(tmp_path, break_it, options, words):
    root = voc_tree(tmp_path / 'voc')
    break_it(root)
    with pytest.raises(InputError) as error:
        build(root, **{'task': 0, **options})
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_missing_root_names_it(tmp_path):
    with pytest.raises(InputError, match='nowhere'):
        build(tmp_path / 'nowhere')


def test_a_task_whose_classes_no_mask_holds_is_refused_with_the_values(tmp_path):
    root = write_masks(tmp_path / 'voc', [[1, 0, 255]])
    with pytest.raises(InputError, match=r'task 1 \(potted ?plant\) has no image: no mask holds the value 16, which '
                                         r'stands for potted ?plant; the masks hold 0, 1, 255: correct the masks'):
        build(root, 1)
    with pytest.raises(InputError, match=r'the values 11, 12, 13, .* which stand for .*; the masks hold 0, 1, 255:'):
        build(root, 1, dict(name='10-5'))


def test_a_task_whose_images_the_setting_leaves_out_is_refused_with_the_settings(tmp_path):
    root = write_masks(tmp_path / 'voc', [[1, 0], [16, 17], [16, 20]])
    with pytest.raises(InputError, match=r'no image in the disjoint setting: each of the 2 .* a later task too; set '
                                         r'scenario\.setting=overlapped'):
        build(root, 1, setting='disjoint')


@pytest.mark.skipif(not (VOC_ROOT / VOC['ann_file']).exists(), reason='VOC with the SBD masks is not in data/VOCdevkit')
@pytest.mark.parametrize('setting, counts', [
    ('overlapped', [9568, 487, 299, 491, 500, 548]), ('disjoint', [8437, 378, 299, 420, 500, 548])])
def test_images_of_voc_15_1_are_as_many_as_published(setting, counts, tmp_path):
    config = dict(type='TaskDataset', dataset=dict(VOC, data_root=str(VOC_ROOT)), pipeline=PIPELINE[:2],
                  scenario=dict(name='15-1', num_classes=20, setting=setting), index_cache=str(tmp_path))
    assert [DATASETS.build(dict(config, task=task)).num_new for task in range(6)] == counts


@pytest.mark.skipif(not (VOC_ROOT / 'SegmentationClass').exists(), reason='VOC is not in data/VOCdevkit')
@pytest.mark.parametrize('setting, name, changed, uses', [
    ('overlapped', '15-1', 33, 500), ('disjoint', '15-1', 22, 500), ('overlapped', '10-1', 90, 1000),
    ('disjoint', '10-1', 122, 1000), ('disjoint', '15-5', 0, 100)])
def test_how_many_uses_of_exemplars_the_labels_change_on_voc(setting, name, changed, uses, tmp_path):
    """VOC's own training images (train.txt), |M| = 100, seed 0: what `memory.labels=seen` shows beyond `stored`."""
    source = dict(VOC, data_root=str(VOC_ROOT), ann_file='ImageSets/Segmentation/train.txt',
                  data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'))
    memory, path, found = ExemplarMemory(100), tmp_path / 'memory.json', [0, 0]
    for task in range(len(Scenario(name, 20).tasks)):
        seen, stored = (DATASETS.build(dict(
            type='TaskDataset', dataset=source, pipeline=PIPELINE[:2], task=task,
            scenario=dict(name=name, num_classes=20, setting=setting), exemplars=str(path) if task else None,
            exemplar_labels=labels, index_cache=str(tmp_path))) for labels in ('seen', 'stored'))
        for (image, more), (_, less) in zip(seen._samples[seen.num_new:], stored._samples[stored.num_new:],
                                            strict=True):
            held = set(seen.label_table[seen.index.values(image)].tolist())
            assert held & set(less) <= held & set(more)
            found = [found[0] + (held & set(less) != held & set(more)), found[1] + 1]
        memory = memory.update(seen.images_by_class(), task, 0)
        memory.write(path, seen.metainfo['classes'])
    assert found == [changed, uses]


def test_exemplars_are_no_images_of_the_task_to_choose_from(tmp_path):
    root = write_masks(tmp_path / 'voc', [[1, 16, 17], [16, 17, 1], [17, 0, 0]])
    memory = ExemplarMemory(5).update({16: ['2007_000000.jpg', '2007_000001.jpg']}, task=1, seed=0)
    memory.write(tmp_path / 'memory.json', build(root).metainfo['classes'])
    dataset = build(root, 2, exemplars=str(tmp_path / 'memory.json'))
    assert dataset.num_exemplars == 2
    assert dataset.images_by_class() == {17: ['2007_000000.jpg', '2007_000001.jpg', '2007_000002.jpg']}


def test_a_data_set_made_of_another_has_its_own_checksum(tmp_path):
    root = write_masks(tmp_path / 'voc', [[1, 0], [16, 0], [17, 0]])
    first = build(root, 0)
    digests = [first.digest(), first.for_task(1).digest(), first.for_task(2).digest()]
    assert digests == [build(root, task).digest() for task in range(3)] and len(set(digests)) == 3
    assert first.task == 0 and images(first) == [0]


@pytest.mark.parametrize('size', [7, 24, 31])
def test_scaled_masks_hold_no_class_that_nobody_drew(tmp_path, size):
    """In training and in test, through the pipelines of a config."""
    cfg = tiny_config(voc_tree(tmp_path / 'voc', 20), tmp_path / 'run', saliency=None, test_size=size)
    run, config = Run(cfg), task_config(cfg, 0)
    scaled = 0
    for dataset in (run.train_data(config, 0), run.test_data(config)):
        for position in range(len(dataset)):
            sample = dataset[position]['data_samples']
            with Image.open(sample.seg_map_path) as mask:
                drawn = set(np.unique(mask))
                scaled += sample.img_shape[::-1] != mask.size
            assert set(sample.gt_sem_seg.data.unique().tolist()) <= drawn
    assert scaled > len(run.train_data(config, 0))
