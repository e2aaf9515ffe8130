"""What all methods share: a segmentor that starts from the old task's weights and can freeze parts of itself."""
from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ..errors import InputError
from ..scenario import BACKGROUND
from .upsampling import upsample, upsampled_argmax

MERGE_UNKNOWN = ('labels', 'scores')


class IncrementalSegmentor(EncoderDecoder):
    """An encoder-decoder that learns the classes of one task; methods extend it.

    A method overrides some of :meth:`frozen_modules`, :attr:`trunk_stays`, :meth:`start_task`, :meth:`targets` and
    :meth:`learning_classifiers`, and nothing else. Its *trunk* is everything below the classifiers: backbone, neck and
    ASPP.

    Args:
        backbone: any mmseg backbone.
        decode_head: an ``IncrementalASPPHead``.
        neck: any mmseg neck.
        data_preprocessor: mmseg's ``SegDataPreProcessor``.
        merge_unknown: how predictions treat unknown: 'labels', as a label of its own that the metric counts as
            background (the paper); 'scores', added to the background's sigmoid score (the authors' code).
        channels_last: whether convolutions run in channels-last memory layout; same numbers to rounding, faster.

    Raises:
        InputError: ``merge_unknown`` is none of the two.
    """

    def __init__(self,
                 backbone: dict,
                 decode_head: dict,
                 neck: dict | None = None,
                 data_preprocessor: dict | None = None,
                 merge_unknown: str = 'labels',
                 channels_last: bool = True) -> None:
        super().__init__(
            backbone=backbone, decode_head=decode_head, neck=neck, data_preprocessor=data_preprocessor,
            test_cfg=dict(mode='whole'))
        if merge_unknown not in MERGE_UNKNOWN:
            raise InputError(f'model.merge_unknown is {merge_unknown!r}; choose one of {", ".join(MERGE_UNKNOWN)}')
        self.merge_unknown = merge_unknown
        self.memory_format = torch.contiguous_format
        if channels_last and not any(map(_breaks_channels_last, self.modules())):
            self.memory_format = torch.channels_last
            self.to(memory_format=self.memory_format)
        self.task = self.decode_head.task

    def frozen_modules(self) -> list[nn.Module]:
        """Modules that do not learn in this task."""
        return []

    def start_task(self, old_state: dict[str, Tensor]) -> None:
        """Take over the weights of the old task; only the new classes' classifier, drawn anew, may be missing in them.

        Raises:
            InputError: a weight is missing, unknown or of another shape.
        """
        new_classifier = f'decode_head.classifiers.task_{self.task}.'
        own = self.state_dict()
        expected = {key for key in own if not key.startswith(new_classifier)}
        wrong = sorted(expected.symmetric_difference(old_state))
        wrong = wrong or [key for key in sorted(expected) if _form(own[key]) != _form(old_state[key])]
        if wrong:
            raise InputError(f'the weights of task {self.task - 1} do not fit this network: {wrong[0]} is missing, '
                             f'unknown or of another shape or type ({len(wrong)} such in all); train task '
                             f'{self.task - 1} with this config')
        self.load_state_dict({**own, **old_state})
        self.decode_head.init_classifiers(f'task_{self.task}')

    def init_weights(self) -> None:
        """Initialise the base task; later ones start in :meth:`start_task`, which a runner calls before this."""
        if self.task == 0:
            super().init_weights()

    def freeze(self) -> None:
        """Stop the frozen modules from learning; the runner calls it before it wraps the model."""
        for module in self.frozen_modules():
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> 'IncrementalSegmentor':
        """Set training mode; frozen modules stay in evaluation mode, so that BatchNorm statistics stay put."""
        super().train(mode)
        for module in self.frozen_modules():
            module.eval()
        return self

    @property
    def trunk_frozen(self) -> bool:
        """Whether everything below the classifiers is frozen."""
        return self.backbone in self.frozen_modules()

    @property
    def trunk_stays(self) -> bool:
        """Whether no task after this one changes what is below the classifiers."""
        return False

    def trunk(self, inputs: Tensor) -> Tensor:
        """Everything below the classifiers: images (B, 3, H, W) to features (B, channels, h, w)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.trunk_frozen):
            inputs = inputs.contiguous(memory_format=self.memory_format)
            return self.decode_head.features(self.extract_feat(inputs))

    def targets(self, inputs: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Training targets of a batch.

        Args:
            inputs: float (B, 3, H, W), normalised images.
            features: float (B, channels, h, w), of :meth:`trunk`.
            labels: uint8 or int64 (B, H, W), augmented labels.

        Returns:
            int64 (B, H, W), channels of the head or ``losses.IGNORED``.
        """
        return self.decode_head.to_channels(labels)

    def learning_classifiers(self) -> Sequence[str]:
        """Names of the classifiers whose channels the loss covers."""
        return self.decode_head.names

    def loss(self, inputs: Tensor, data_samples: Sequence[SegDataSample]) -> dict[str, Tensor]:
        """Loss of a batch: images (B, 3, H, W) and their samples with ``gt_sem_seg``."""
        labels = torch.cat([sample.gt_sem_seg.data for sample in data_samples])
        features = self.trunk(inputs)
        return self.loss_by_feat(features, self.targets(inputs, features, labels))

    def forward(self, inputs: Tensor, data_samples: Sequence[SegDataSample] | Tensor | None = None,
                mode: str = 'tensor') -> dict[str, Tensor] | list[SegDataSample] | Tensor:
        """mmseg's forward with one more mode: 'features' is the loss of features against finished labels.

        A distributed wrapper sees only ``forward``, so training on kept features has to pass here.
        """
        if mode == 'features':
            return self.loss_by_feat(inputs, self.decode_head.to_channels(data_samples))
        return super().forward(inputs, data_samples, mode)

    def loss_by_feat(self, features: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Loss of features (B, channels, h, w) against finished targets (B, H, W)."""
        return self.decode_head.loss(features, targets, self.learning_classifiers())

    def test_step(self, data: dict) -> list[SegDataSample]:
        """Predict the images of a loaded batch, which may differ in size."""
        outputs = []
        for part in of_one_size(data):
            outputs += super().test_step(part)
        return outputs

    def predict(self, inputs: Tensor, data_samples: Sequence[SegDataSample] | None = None) -> list[SegDataSample]:
        """Predict labels of images (B, 3, H, W), see :meth:`predict_by_feat`."""
        samples = data_samples or [SegDataSample() for _ in inputs]
        return self.predict_by_feat(self.trunk(inputs), tuple(inputs.shape[2:]), samples)

    def predict_by_feat(self, features: Tensor, input_size: tuple[int, int],
                        data_samples: Sequence[SegDataSample]) -> list[SegDataSample]:
        """Predict labels from features.

        The prediction has the size of the ground truth where there is one, else of the original image.

        Args:
            features: float (B, channels, h, w).
            input_size: (H, W) of the network's input.
            data_samples: one per image.

        Returns:
            The samples with ``pred_sem_seg``, uint8 (1, H, W): 0 background, 1..n_seen, UNKNOWN.
        """
        logits = self.decode_head.classify(features).float()
        for image, sample in zip(logits, data_samples, strict=True):
            sample.pred_sem_seg = PixelData(data=self._labels(image.unsqueeze(0), input_size, sample))
        return list(data_samples)

    def _labels(self, logits: Tensor, input_size: tuple[int, int], sample: SegDataSample) -> Tensor:
        """Labels (1, H, W) of one image's logits (1, C, h, w)."""
        head = self.decode_head
        left, right, top, bottom = sample.metainfo.get('img_padding_size', sample.metainfo.get('padding_size', [0] * 4))
        view = slice(top, input_size[0] - bottom), slice(left, input_size[1] - right)
        shown = input_size[0] - top - bottom, input_size[1] - left - right
        size = tuple(sample.gt_sem_seg.shape) if 'gt_sem_seg' in sample else sample.metainfo.get('ori_shape', shown)
        if size == shown and not self._adds_scores:
            return head.to_labels(upsampled_argmax(logits, input_size, head.align_corners)[:, view[0], view[1]])
        scores = upsample(logits, input_size, head.align_corners)[:, :, view[0], view[1]]
        scores = upsample(scores, size, head.align_corners)
        if self._adds_scores:
            scores = scores.sigmoid() if head.loss_decode.independent_channels else scores.softmax(1)
            scores[:, BACKGROUND] += scores[:, -1]
            scores = scores[:, :-1]
        return head.to_labels(scores.argmax(1))

    @property
    def _adds_scores(self) -> bool:
        """Whether unknown's score is added to the background's."""
        return self.merge_unknown == 'scores' and 'unknown' in self.decode_head.names


def of_one_size(batch: dict) -> Iterator[dict]:
    """Parts of a loaded batch, in its order, each of images of one size: a network takes no others together."""
    images, samples = batch['inputs'], batch['data_samples']
    for _, part in groupby(range(len(images)), key=lambda position: images[position].shape):
        positions = list(part)
        yield dict(inputs=[images[i] for i in positions], data_samples=[samples[i] for i in positions])


def _form(tensor: Tensor) -> tuple:
    """What two tensors must share for one to take the other's values."""
    return tensor.shape, tensor.dtype, tensor.layout


def _breaks_channels_last(module: nn.Module) -> bool:
    """Whether a module is unsafe in channels-last layout.

    PyTorch 2.13 on one CPU thread writes outside its memory in the backward pass of a strided 1x1 convolution of fewer
    channels than a vector register holds.
    """
    return (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.stride != (1, 1)
            and module.in_channels < 8)
