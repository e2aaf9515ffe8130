"""Images of several sizes in one loaded batch."""
import torch
from mmseg.structures import SegDataSample
from tiny import tiny_model

from ssul_mmseg.models.batch import of_one_size


def test_a_loaded_batch_is_cut_where_the_size_changes():
    images = [torch.zeros(3, *size) for size in ((4, 6), (4, 6), (6, 4), (4, 6))]
    parts = list(of_one_size(dict(inputs=images, data_samples=list('abcd'))))
    assert [part['data_samples'] for part in parts] == [['a', 'b'], ['c'], ['d']]
    assert [image for part in parts for image in part['inputs']] == images


def test_images_of_several_sizes_are_predicted_in_their_order():
    model = tiny_model([3]).eval()
    sizes = [(32, 32), (24, 40), (24, 40), (32, 32), (40, 24)]
    inputs = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    samples = [SegDataSample(metainfo=dict(ori_shape=size, number=i)) for i, size in enumerate(sizes)]
    outputs = model.test_step(dict(inputs=inputs, data_samples=samples))
    assert [output.number for output in outputs] == [0, 1, 2, 3, 4]
    for image, output in zip(inputs, outputs, strict=True):
        (alone, ) = model.test_step(dict(inputs=[image], data_samples=[SegDataSample()]))
        assert torch.equal(output.pred_sem_seg.data, alone.pred_sem_seg.data)
