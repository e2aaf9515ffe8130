"""A learned network as one function of an image."""
import pytest
import torch
from test_stock import learned

from ssul_mmseg.models.portable import PortableNetwork
from ssul_mmseg.scenario import BACKGROUND, UNKNOWN

IMAGES = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0)) * 255


def predicted(model, images):
    """Labels that the network itself predicts of RGB images, as mmseg loads them: uint8, BGR."""
    pixels = images.round().to(torch.uint8)
    batch = model.data_preprocessor(dict(inputs=[image.flip(0) for image in pixels], data_samples=None))
    samples = model.predict(batch['inputs'])
    return pixels.float(), torch.cat([sample.pred_sem_seg.data for sample in samples]).long()


@pytest.mark.parametrize('merge', [True, False])
@pytest.mark.parametrize('rgb', [True, False])
def test_the_largest_logit_is_the_networks_own_label(merge, rgb):
    model, _ = learned()
    model.data_preprocessor._channel_conversion = rgb
    with torch.no_grad():
        # One colour is far from the other: a network that gets BGR for RGB would predict something else.
        model.backbone.conv1.weight[:, 0] *= 5
        pixels, labels = predicted(model, IMAGES)
        network = PortableNetwork(model, merge)
        logits = network(pixels)
        swapped = network(pixels.flip(1)).argmax(1)
    assert len(labels.unique()) > 2 and UNKNOWN in labels
    expected = torch.where(labels == UNKNOWN, BACKGROUND if merge else 6, labels)
    assert logits.shape == (2, 6 if merge else 7, 40, 56)
    assert torch.equal(logits.argmax(1), expected) and not torch.equal(swapped, expected)
    assert network.keeps_unknown is not merge


def test_an_exporter_finds_evaluation_mode_and_leaves_it():
    network = PortableNetwork(learned('FCNHead')[0].train(), merge=True)
    network.train(network.training)  # as PyTorch's exporters do afterwards
    assert not any(module.training for module in network.modules())


def test_a_pooled_pixel_that_is_repeated_is_what_resizing_gives():
    network = PortableNetwork(learned()[0], merge=True)
    with torch.no_grad():
        expected = network(IMAGES)
        network.broadcast_pool()
        torch.testing.assert_close(network(IMAGES), expected)
    PortableNetwork(learned('FCNHead')[0], merge=True).broadcast_pool()  # a head that pools nothing is left alone


def test_a_network_without_unknown_merges_nothing():
    network = PortableNetwork(learned(unknown=False)[0], merge=True)
    assert not network.merge and not network.keeps_unknown and network(IMAGES).shape[1] == 6
