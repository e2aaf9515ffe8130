"""Which images of a task are shown."""
import pytest
from tiny import tiny_config, voc_tree

from ssul_mmseg.engine.label_samples import task_labels
from ssul_mmseg.engine.run import Run
from ssul_mmseg.errors import InputError


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return voc_tree(tmp_path_factory.mktemp('data') / 'voc')


def shown(tree, work_dir, task, images, **options):
    return task_labels(Run(tiny_config(tree, work_dir, **{'scenario.name': '10-10', **options})), task, images)


def test_images_are_those_of_the_first_batches_however_many(tree, tmp_path):
    """Batches of 4."""
    names = {count: [(sample.image, sample.view) for sample in shown(tree, tmp_path, 0, count).samples]
             for count in (2, 4, 9)}
    assert names[2] == names[4][::2] and len(set(names[9])) == 9
    assert set(names[4]) <= {*names[9]} | set(names[4]) and len(names[4]) == 4


def test_small_images_are_padded_to_the_crop(tree, tmp_path):
    sample = shown(tree, tmp_path, 0, 1, crop_size=(64, 80)).samples[0]
    sizes = {part.shape[:2] for part in (sample.pixels, sample.mask, sample.salient, sample.shown, sample.trained)}
    assert sizes == {(64, 80)} and (sample.trained == 255).any() and not sample.changed.any()


def test_a_solved_task_is_shown_too(tree, tmp_path):
    labels = shown(tree, tmp_path, 1, 3, **{'incremental': dict(solver=dict(type='Newton'))})
    assert len(labels.samples) == 3 and not labels.has_old


def test_weights_of_another_scenario_are_refused(tree, tmp_path):
    (tmp_path / 'task_0').mkdir()
    (tmp_path / 'task_0/weights.pth').write_bytes(b'no weights')
    with pytest.raises(InputError, match='is torn or is no file of weights'):
        shown(tree, tmp_path, 1, 1)
