"""The labels that a batch is trained on."""
import torch
from tiny import samples_of, started, tiny_model

from ssul_mmseg.models.trained_labels import trained_labels
from ssul_mmseg.scenario import IGNORE, UNKNOWN


def test_labels_before_and_after_the_method():
    old = tiny_model([3]).eval()
    model = started(tiny_model([3, 2]), old)
    model.data_preprocessor.size = (32, 32)  # as a config has it from its crops
    torch.manual_seed(0)
    images = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    given = torch.tensor([0, 4, 5, UNKNOWN, IGNORE])[torch.randint(5, (2, 32, 32))]
    data = dict(inputs=list(images), data_samples=samples_of(given))
    shown, trained = trained_labels(model, data, size=5)
    assert shown.dtype == trained.dtype == torch.uint8 and torch.equal(shown, given.to(torch.uint8))
    prepared = model.data_preprocessor(data, True)
    batch = model.batch_of(prepared['inputs'], given)
    assert torch.equal(trained, model.decode_head.to_labels(model.targets(batch)))
    changed = shown != trained
    assert changed.any() and set(trained[changed].tolist()) <= {1, 2, 3}
    assert set(shown[changed].tolist()) <= {0, UNKNOWN}
