"""What all methods share: a segmentor that starts from the old task, learns a new one, and predicts labels."""
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor

from ..errors import InputError
from .batch import Batch, TaskLoader, of_one_size
from .heads import IncrementalHead
from .memory_format import choose_memory_format
from .old_model import OldModel
from .old_task import OldTask, check_weights
from .partly_frozen import PartlyFrozenSegmentor
from .predicting import add_unknown, check_test_cfg, labels_at_image_size, logits_at_image_size
from .upsampling import upsample

__all__ = ['Batch', 'IncrementalSegmentor', 'OldTask', 'of_one_size']

MERGE_UNKNOWN = ('labels', 'scores')


class IncrementalSegmentor(PartlyFrozenSegmentor):
    """An encoder-decoder that learns the classes of one task; a method is a subclass.

    A method overrides some of these, which the engine calls in this order (docs/add_a_method.md):
    :meth:`frozen_modules`, :meth:`start_task`, :meth:`before_training`, :meth:`ask_old_model`, :meth:`targets`,
    :meth:`losses`, :meth:`before_step`, :meth:`task_state`, :meth:`finish_task`, and :attr:`trunk_fixed` beside them.

    Args:
        backbone: any mmseg backbone.
        decode_head: an :class:`~ssul_mmseg.models.heads.IncrementalHead`, such as ``IncrementalASPPHead``.
        neck: any mmseg neck.
        auxiliary_head: one or several of the same kind, which help a trunk to learn.
        data_preprocessor: mmseg's ``SegDataPreProcessor``.
        train_cfg: as in mmseg.
        test_cfg: as in mmseg: ``dict(mode='whole')`` (the default), or ``dict(mode='slide', crop_size=, stride=)``;
            with ``seg_logits=True`` samples carry their logits too.
        merge_unknown: how predictions treat unknown: 'labels', as a label of its own that the metric counts as
            background (the paper); 'scores', added to the background's sigmoid score (the authors' code).
        channels_last: whether convolutions run in channels-last memory layout; same numbers to rounding, faster.
        freeze_backbone: whether the backbone keeps its (pretrained) weights in every task, the first included.

    Raises:
        InputError: ``merge_unknown`` is none of the two, ``test_cfg`` is no such dict, a head is no incremental one or
            has classifiers that the method cannot learn, or an auxiliary head has other channels than the decode head.
    """

    classifier_kinds: tuple[str, ...] = ('linear', 'conv')
    """Classifiers of the decode head that the method can learn."""
    solves = False
    """Whether the method solves all tasks but the first instead of training them."""

    def __init__(self,
                 backbone: dict,
                 decode_head: dict,
                 neck: dict | None = None,
                 auxiliary_head: dict | list[dict] | None = None,
                 data_preprocessor: dict | None = None,
                 train_cfg: dict | None = None,
                 test_cfg: dict | None = None,
                 merge_unknown: str = 'labels',
                 channels_last: bool = True,
                 freeze_backbone: bool = False) -> None:
        super().__init__(
            backbone=backbone, decode_head=decode_head, neck=neck, auxiliary_head=auxiliary_head,
            data_preprocessor=data_preprocessor, train_cfg=train_cfg, test_cfg=check_test_cfg(test_cfg))
        if merge_unknown not in MERGE_UNKNOWN:
            raise InputError(f'model.merge_unknown is {merge_unknown!r}; choose one of {", ".join(MERGE_UNKNOWN)}')
        for head in self.heads:
            if not isinstance(head, IncrementalHead):
                raise InputError(f'{type(head).__name__} is no head that learns task by task; set the type of '
                                 f'model.decode_head to an Incremental... head, such as IncrementalASPPHead')
            if head.names != self.decode_head.names:
                raise InputError('model.decode_head and model.auxiliary_head learn from the same targets, but one has '
                                 'an unknown channel and the other has none; give both the same value of unknown')
        if self.decode_head.classifier not in self.classifier_kinds:
            raise InputError(f'model.decode_head.classifier is {self.decode_head.classifier!r}, which '
                             f'{type(self).__name__} cannot learn; choose one of {", ".join(self.classifier_kinds)}')
        self.merge_unknown = merge_unknown
        self.freeze_backbone = freeze_backbone
        self.old_model: OldModel | None = None
        self.memory_format = choose_memory_format(self, channels_last)
        self.to(memory_format=self.memory_format)
        self.task = self.decode_head.task

    def init_weights(self) -> None:
        """Initialise all parts; mmengine passes over several auxiliary heads, as a plain list holds them."""
        super().init_weights()
        for head in self.heads:
            if not head.is_init:
                head.init_weights()

    # The contract of a method, in the order of a task, after what it freezes.

    def start_task(self, old: OldTask) -> None:
        """Take over the old task's weights; the new classes' classifiers, which they lack, are drawn anew.

        Args:
            old: the task before. Called once, from task 1 on, before training.

        Raises:
            InputError: a weight is missing, unknown or of another shape.
        """
        own = self.state_dict()
        new = tuple(f'{name}.classifiers.{head.new_name}.' for name, head in self.named_heads())
        check_weights(old.weights, own, {key for key in own if not key.startswith(new)}, self.task - 1)
        self.load_state_dict({**own, **old.weights})
        for head in self.heads:
            head.init_classifiers(head.new_name)

    def before_training(self, loader: TaskLoader) -> None:
        """Prepare with the training data at hand, after the weights are there and before the first batch."""

    def ask_old_model(self, batch: Batch) -> dict[str, Tensor]:
        """What the old network says of a batch, kept in ``batch.old``: its ``logits``, where a method keeps it.

        Called where the trunk learns, without gradients, and before anything that learns runs: so the activations of
        the two networks are never in memory together. Give back little, such as logits on the grid of the features.

        Args:
            batch: with labels, and with images, or with the backbone's maps where it is frozen; without features.
        """
        return {'logits': self.old_model.logits(batch)} if self.old_model else {}

    def targets(self, batch: Batch) -> Tensor:
        """Training targets of a batch.

        Returns:
            int64 (B, H, W), channels of the head or ``losses.IGNORED``.
        """
        return self.decode_head.to_channels(batch.labels)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch with its targets; values whose key contains 'loss' are added up and minimised."""
        losses = self.decode_head.pixel_loss(batch.features, batch.targets, self.learning_classifiers())
        return {**losses, **self.auxiliary_losses(batch)}

    def before_step(self) -> None:
        """Read or change the gradients of a batch, after the backward pass and before the update."""

    def check_loop(self, solver: bool) -> None:
        """Refuse a task of this network that is trained or solved, where it can only be the other.

        Args:
            solver: whether the config has a solver for the task.

        Raises:
            InputError: it cannot be.
        """
        if solver:
            raise InputError(f'incremental.solver is set, but {type(self).__name__} has no solver, only training; '
                             'remove it')

    def solve(self, images: Any, solver: Any) -> dict[str, Any]:
        """Learn the task by a solution instead of training, where the config has a solver or :attr:`solves` says so.

        Args:
            images: the task's images as :class:`~ssul_mmseg.solver.task_cells.TaskImages`, which make its cells.
            solver: the config's solver, a :class:`~ssul_mmseg.solver.newton.Newton`, or None.

        Returns:
            What to log of the solution.
        """
        raise NotImplementedError

    def task_state(self) -> dict[str, Tensor]:
        """What the method has gathered in this task beside the weights; checkpoints hold it."""
        return {}

    def load_task_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`task_state` returned."""

    def finish_task(self, loader: TaskLoader) -> dict[str, Tensor]:
        """What the next task's :meth:`start_task` needs beside the weights; saved with them."""
        return self.task_state()

    @property
    def gathered(self) -> tuple[str, ...]:
        """What :meth:`finish_task` makes of task 0's images alone: keys of its state, prefixes of weights.

        So a run can start from a task 0 that another method has learned and that lacks them.
        """
        return ()

    # What the contract is made of.

    def learning_classifiers(self) -> Sequence[str]:
        """Names of the classifiers whose channels the loss covers."""
        return self.decode_head.names

    def logits(self, batch: Batch) -> Tensor:
        """Logits of all channels float32 (B, C, h, w), on the grid of the features, with dropout in training."""
        head = self.decode_head
        return head.classify(batch.features if head.dropout is None else head.dropout(batch.features)).float()

    def at_label_size(self, logits: Tensor, batch: Batch) -> Tensor:
        """Logits (B, C, h, w), bilinearly upsampled to the size of a batch's labels: float32 (B, C, H, W)."""
        size = (batch.labels.shape[1], batch.labels.shape[2])
        return upsample(logits.float(), size, self.decode_head.align_corners)

    def auxiliary_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of the auxiliary heads; they are for a trunk that learns."""
        if self.trunk_frozen:
            return {}
        losses = {}
        for place, head in enumerate(self.heads[1:]):
            found = head.pixel_loss(head.features(batch.maps), batch.targets, head.names)
            losses.update(add_prefix(found, f'aux_{place}'))
        return losses

    def begin_batch(self, seed: int, places: Sequence[int], size: int) -> None:
        """Announce the next batch to what is random, see :class:`~ssul_mmseg.models.dropout.BatchDropout2d`."""
        for head in self.heads:
            head.begin_batch(seed, places, size)

    # Images become features and losses.

    def batch_of(self, inputs: Tensor, labels: Tensor) -> Batch:
        """A batch of images (B, 3, H, W) and their labels (B, H, W), with maps and features."""
        batch = Batch(labels, inputs=inputs)
        if self.frozen_prefix is None:
            self._ask_old_model(batch)
        batch.prefix = self.backbone_maps(inputs)
        return self._run_on_prefix(batch)

    def _run_on_prefix(self, batch: Batch) -> Batch:
        """Run what follows the backbone, whose maps the batch has."""
        if self.frozen_prefix == 'backbone':
            self._ask_old_model(batch)
        batch.maps = self.after_backbone(batch.prefix)
        batch.features = self.head_features(batch.maps)
        return batch

    @torch.no_grad()
    def _ask_old_model(self, batch: Batch) -> None:
        """Let the old network run where it is one of its own, before anything of the new one that learns."""
        batch.old = self.ask_old_model(batch)

    def loss(self, inputs: Tensor, data_samples: Sequence[SegDataSample]) -> dict[str, Tensor]:
        """Loss of a batch: images (B, 3, H, W) and their samples with ``gt_sem_seg``."""
        labels = torch.cat([sample.gt_sem_seg.data for sample in data_samples])
        batch = self.batch_of(inputs, labels)
        batch.targets = self.targets(batch)
        return self.losses(batch)

    def forward(self, inputs: Tensor | Sequence[Tensor],
                data_samples: Sequence[SegDataSample] | Tensor | None = None,
                mode: str = 'tensor') -> dict[str, Tensor] | list[SegDataSample] | Tensor:
        """mmseg's forward with one more mode: 'kept' is the loss of what the feature cache keeps, see :meth:`keep`.

        A distributed wrapper sees only ``forward``, so training on kept features has to pass here.
        """
        if mode == 'kept':
            return self._loss_of_kept(cast(Sequence[Tensor], inputs), cast(Tensor, data_samples))
        return super().forward(inputs, data_samples, mode)

    def keep(self, inputs: Tensor, labels: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """What of a batch never changes while the frozen prefix is frozen.

        Args:
            inputs: float (B, 3, H, W), normalised images.
            labels: uint8 (B, H, W), augmented labels.

        Returns:
            The features and finished labels (uint8) where the trunk is frozen; else the backbone's maps and the labels
            as they are.
        """
        if not self.trunk_frozen:
            return self.backbone_maps(inputs), labels
        batch = self.batch_of(inputs, labels)
        return (batch.features, ), self.decode_head.to_labels(self.targets(batch))

    def nothing_kept(self) -> tuple[tuple[Tensor, ...], Tensor]:
        """A batch of no image, as :meth:`keep` returns it, where the trunk is frozen."""
        device = next(self.parameters()).device
        return ((torch.zeros(0, self.decode_head.feature_channels, 1, 1, device=device), ),
                torch.zeros(0, 1, 1, dtype=torch.uint8, device=device))

    def _loss_of_kept(self, kept: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Loss of a batch of what :meth:`keep` returned."""
        if self.trunk_frozen:
            features, = kept
            return self.losses(Batch(labels, features, targets=self.decode_head.to_channels(labels)))
        batch = Batch(labels, prefix=tuple(kept))
        batch.targets = self.targets(self._run_on_prefix(batch))
        return self.losses(batch)

    # Features become labels.

    def test_step(self, data: dict) -> list[SegDataSample]:
        """Predict the images of a loaded batch, which may differ in size."""
        outputs = []
        for part in of_one_size(data):
            outputs += super().test_step(part)
        return outputs

    @property
    def predicts_from_features(self) -> bool:
        """Whether the features of a whole image decide its labels, which slide inference does not do."""
        return self.test_cfg.mode == 'whole'

    def predict(self, inputs: Tensor, data_samples: Sequence[SegDataSample] | None = None) -> list[SegDataSample]:
        """Predict labels of images (B, 3, H, W), see :meth:`predict_by_feat`."""
        samples = data_samples or [SegDataSample() for _ in inputs]
        size = (inputs.shape[2], inputs.shape[3])
        if self.predicts_from_features:
            return self.predict_by_feat(self.trunk(inputs), size, samples)
        metas = [{'ori_shape': size, **sample.metainfo, 'img_shape': size, 'pad_shape': size} for sample in samples]
        return self.predict_by_logits(self.inference(inputs, metas), size, samples)

    def predict_by_feat(self, features: Tensor, input_size: tuple[int, int],
                        data_samples: Sequence[SegDataSample]) -> list[SegDataSample]:
        """Predict labels from features.

        The prediction has the size of the ground truth where there is one, else of the original image.

        Args:
            features: float (B, feature_channels, h, w).
            input_size: (H, W) of the network's input.
            data_samples: one per image.

        Returns:
            The samples with ``pred_sem_seg``, uint8 (1, H, W): 0 background, 1..n_seen, UNKNOWN.
        """
        return self.predict_by_logits(self.predicted_logits(features), input_size, data_samples)

    def predicted_logits(self, features: Tensor) -> Tensor:
        """Logits (B, C, h, w) that labels are chosen by, from features (B, feature_channels, h, w) of whole images."""
        return self.decode_head.classify(features)

    def encode_decode(self, inputs: Tensor, batch_img_metas: Sequence[Mapping[str, Any]]) -> Tensor:
        """Logits (B, C, H, W) of windows (B, 3, H, W), each taken for an image, as mmseg's slide inference asks."""
        size = (inputs.shape[2], inputs.shape[3])
        return upsample(self.predicted_logits(self.trunk(inputs)), size, self.align_corners)

    def predict_by_logits(self, logits: Tensor, input_size: tuple[int, int],
                          data_samples: Sequence[SegDataSample]) -> list[SegDataSample]:
        """Predict labels from logits (B, C, h, w), see :meth:`predict_by_feat`."""
        for image, sample in zip(logits.float().split(1), data_samples, strict=True):
            sample.pred_sem_seg = PixelData(data=self._labels(image, input_size, sample))
            if self.test_cfg.get('seg_logits'):
                scores = logits_at_image_size(image, input_size, sample, self.align_corners)
                sample.seg_logits = PixelData(data=scores[0])
        return list(data_samples)

    def _labels(self, logits: Tensor, input_size: tuple[int, int], sample: SegDataSample) -> Tensor:
        """Labels (1, H, W) of one image's logits (1, C, h, w)."""
        if not self._adds_scores:
            channels = labels_at_image_size(logits, input_size, sample, self.align_corners)
            return self.decode_head.to_labels(channels)
        scores = logits_at_image_size(logits, input_size, sample, self.align_corners)
        return self.labels_of_scores(self.probabilities(scores))

    def labels_of_scores(self, scores: Tensor) -> Tensor:
        """Labels uint8 (B, H, W) of the largest of scores (B, C, H, W), with unknown merged as the model says."""
        if self._adds_scores:
            scores = add_unknown(scores)
        return self.decode_head.to_labels(scores.argmax(1))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Sigmoid or softmax of logits (B, C, H, W), as the head was trained."""
        return logits.sigmoid() if self.decode_head.independent_channels else logits.softmax(1)

    @property
    def _adds_scores(self) -> bool:
        """Whether unknown's score is added to the background's."""
        return self.merge_unknown == 'scores' and self.decode_head.has_unknown
