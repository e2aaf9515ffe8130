import torch
from test_one_pass import loader_of, network

from ssul_mmseg.engine.feature_cache import FeatureCache
from ssul_mmseg.solver.cells import cells_of, soft_targets
from ssul_mmseg.solver.task_cells import TaskImages


def images_of(model, cache=None, report=None):
    """Five images of a task and two exemplars."""
    loader = loader_of()
    loader.dataset.num_new, loader.dataset.num_exemplars = 5, 2
    return TaskImages(model, loader, cache, report=report)


def joined(blocks):
    return [torch.cat([getattr(cells, kind).float() for cells in blocks])
            for kind in ('features', 'targets', 'weights')]


@torch.no_grad()
def expected(model, positions, names, views=1):
    head, parts = model.decode_head, []
    for view in range(views):
        for position in positions:
            sample = loader_of().dataset[position, view]
            data = model.data_preprocessor(dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]), True)
            features = model.trunk(data['inputs'])
            target = head.channels_among(head.to_channels(sample['data_samples'].gt_sem_seg.data), names)
            shares, weights = soft_targets(target, len(head.channels_of(names)), features.shape[2:])
            parts.append(cells_of(features, shares, weights / views))
    return joined(parts)


def test_cells_of_the_task_and_of_exemplars_in_columns_of_some_classifiers():
    model = network()
    images = images_of(model)
    for names, exemplars, positions in ((['background', 'task_0'], False, range(5)), (['unknown'], True, range(5, 7))):
        found = joined(images.cells(names, exemplars=exemplars))
        for a, b in zip(found, expected(model, positions, names), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    found = joined(images.cells(['task_0'], views=2))
    assert len(found[2]) == 2 * 5 * 4 and found[2].sum() == 5 * 4
    torch.testing.assert_close(found[1], expected(model, range(5), ['task_0'], 2)[1])


def test_what_is_kept_is_not_computed_again_and_is_the_same(tmp_path):
    model = network()
    passes = []
    for limit in (1e-3, 1.2e-6, 0.):
        images = images_of(model, FeatureCache(limit=limit), lambda done, total: passes.append((done, total)))
        kept, plain = images.cells(['task_0'], kept=True), images.cells(['task_0'])
        first, again = joined(kept), joined(kept)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert torch.equal(first[0], joined(plain)[0].half().float())
    # Two groups: both passes of the first are those of kept cells and of plain ones, then each pass anew.
    assert passes[:4] == [(1, 2), (2, 2)] * 2
    assert len(passes) > 4 + 6 and passes[-6:] == [(1, 2), (2, 2)] * 3
