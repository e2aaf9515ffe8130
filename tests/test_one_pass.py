from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from tiny import tiny_model
from torch.utils.data import DataLoader

from ssul_mmseg.models.one_pass import evaluating, own_groups, pass_over


class Images(torch.utils.data.Dataset):
    """Images that are functions of their key, all of one class per position."""

    def __getitem__(self, key):
        position, view = key
        chance = torch.Generator().manual_seed(100 * position + view)
        label = torch.full((1, 24, 24), position % 4, dtype=torch.uint8)
        return dict(inputs=torch.randint(0, 255, (3, 24, 24), generator=chance, dtype=torch.uint8),
                    data_samples=SegDataSample(gt_sem_seg=PixelData(data=label)))

    def __len__(self):
        return 7


def network():
    """A network that takes images of their size."""
    model = tiny_model([3]).eval()
    model.data_preprocessor.size = (24, 24)
    return model


def collated(batch):
    return {key: [sample[key] for sample in batch] for key in batch[0]}


def loader_of(rank=0, world=1, size=3):
    loader = DataLoader(Images(), collate_fn=collated)
    sampler = SimpleNamespace(rank=rank, world=world, local_size=size)
    return SimpleNamespace(dataset=loader.dataset, batch_sampler=sampler, num_workers=0, collate_fn=collated,
                           pin_memory=False)


@pytest.mark.parametrize('world', [1, 2, 9])
def test_every_view_of_every_image_is_one_process_s(world):
    groups = [own_groups(loader_of(rank, world), range(7), views=2) for rank in range(world)]
    keys = [key for own in groups for group in own for key in group]
    assert sorted(keys) == [(position, view) for position in range(7) for view in range(2)]
    for own in groups:
        assert all(len(group) == 3 for group in own[:-1])
    for rank, own in enumerate(groups):
        assert all(position % world == rank for group in own for position, _ in group)


def test_features_and_targets_do_not_depend_on_the_group():
    model, loader = network(), loader_of()
    groups = own_groups(loader, range(7))
    assert [len(group) for group in groups] == [3, 3, 1]
    batches = list(pass_over(model, loader, groups))
    assert [len(batch.features) for batch in batches] == [len(batch.targets) for batch in batches] == [3, 3, 1]
    alone, = pass_over(model, loader, [[(5, 0)]])
    assert torch.equal(alone.features[0], batches[1].features[2]) and not alone.features.requires_grad
    assert torch.cat([batch.targets for batch in batches])[:, 0, 0].tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert torch.is_grad_enabled()


def test_a_pass_without_images_loads_nothing():
    assert list(pass_over(tiny_model([3]).eval(), loader_of(), [])) == []


def test_evaluating_keeps_statistics_and_gives_the_mode_back():
    model = tiny_model([3]).train()
    before = model.backbone.bn1.running_mean.clone()
    with evaluating(model), torch.no_grad():
        model.trunk(torch.randn(2, 3, 24, 24))
    assert torch.equal(model.backbone.bn1.running_mean, before) and model.training and model.backbone.bn1.training
