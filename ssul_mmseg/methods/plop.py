"""PLOP: local pooled outputs are distilled, and background is what the old network is sure of (CVPR 2021)."""
import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..errors import InputError
from ..models.batch import TaskLoader
from ..models.distillation import DistillingSegmentor, check_head, check_weight, start_balanced
from ..models.entropy import histogram_median, uncertainty
from ..models.losses import IGNORED, pixel_ce
from ..models.pod import count_stages, fold_new_channels, local_pod, pod_distance, watch_stages
from ..models.segmentors import Batch, OldTask
from ..scenario import BACKGROUND

BINS = 100
LEAST_THRESHOLD = 0.001
VARIANTS = {'median': ('code', 'exact'), 'entropy': ('code', 'normalised')}


@MODELS.register_module()
class PLOP(DistillingSegmentor):
    r"""PLOP (Douillard et al., CVPR 2021).

    .. math:: L = \nu \, \mathrm{CE}(\tilde y) + \frac{1}{6} \sqrt{\frac{C_{now}}{C_{new}}}
              \sum_l \lambda_l \big\| \Theta_l - \Theta_l^{old} \big\|

    with local POD embeddings :func:`~ssul_mmseg.models.pod.local_pod` (Eq. 3-6) of the backbone's stages before their
    last activation, of the head's features and of the logits, in which new classes are added to background. The
    pseudo-labels y~ (Eq. 7-8) of background pixels are the old network's most likely channel where its uncertainty u is
    below the median of its class, else ignored; :math:`\nu`, for each image, is the share of its background pixels that
    are not ignored (Eq. 9). New classes start as MiB's.

    Published: lambda 0.01 for features and 0.0005 for logits on VOC, 0.001 and 0.00001 on ADE20K; least threshold
    0.001; MiB's schedule, but 10 epochs for VOC 10-1.

    Paper and published code: the code's u is a mean over the C channels of the old network where the paper's entropy
    is a sum, and is divided by log C_now as well, C_now being all channels; and its median adds up the bins' indices
    where it should add up their counts. On ADE20K its filter therefore never rejects a pixel. The published numbers
    come from the code. In code and here, the cross-entropy is averaged over **all** pixels, ignored ones counting as
    0.

    With ``freeze_backbone``, which is not published, the backbone's stages are what they were: their terms are 0.

    Args:
        pod_weight: lambda of the backbone's stages and of the features, at least 0.
        logits_weight: lambda of the logits, at least 0.
        median: 'code', or 'exact', of the histogram.
        entropy: 'code', or 'normalised', in [0, 1] as in the paper.
        segmentor: the arguments of :class:`.IncrementalSegmentor`; its head has no unknown channel and a softmax.

    Raises:
        InputError: an argument is none of these, or the head has an unknown channel or sigmoids.
    """

    def __init__(self, *, pod_weight: float = .01, logits_weight: float = .0005, median: str = 'code',
                 entropy: str = 'code', **segmentor: Any) -> None:
        super().__init__(**segmentor)
        check_head(self.decode_head, 'PLOP')
        check_weight('pod_weight', pod_weight, .01)
        check_weight('logits_weight', logits_weight, .0005)
        for key, value in (('median', median), ('entropy', entropy)):
            if value not in VARIANTS[key]:
                raise InputError(f'model.{key} is {value!r}; choose one of {", ".join(VARIANTS[key])}')
        self.pod_weight, self.logits_weight = pod_weight, logits_weight
        self.median, self.entropy = median, entropy
        self.thresholds = torch.empty(0)
        self._stages: dict[str, Tensor] = {}

    def start_task(self, old: OldTask) -> None:
        """Take over the old weights, keep the old network, and start the new classes as parts of the background."""
        super().start_task(old)
        start_balanced(self.decode_head)

    @torch.no_grad()
    def before_training(self, loader: TaskLoader) -> None:
        """Find the threshold of each old class: a pass of the old network over the training images."""
        if self.old_model is None:
            return
        device = next(self.parameters()).device
        counts = torch.zeros(1 + self.decode_head.num_old, BINS, dtype=torch.long, device=device)
        for loaded in loader:
            data = self.data_preprocessor(loaded, True)
            labels = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])
            batch = Batch(labels, inputs=data['inputs'])
            likeliest, uncertain = self._predictions(self.old_model.logits(batch), batch)
            background = labels == BACKGROUND
            place = (uncertain[background] * BINS).long().clamp(max=BINS - 1)
            counts += (likeliest[background] * BINS + place).bincount(minlength=counts.numel()).view_as(counts)
        all_reduce(counts)
        medians = [histogram_median(part, self.median == 'exact') for part in counts]
        self.thresholds = torch.tensor(medians, device=device).clamp(min=LEAST_THRESHOLD)

    def _predictions(self, old_logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The old network's most likely channel of every pixel of a batch, and its uncertainty there, (B, H, W)."""
        probabilities = self.at_label_size(old_logits, batch).softmax(1)
        return probabilities.argmax(1), uncertainty(probabilities, self.entropy, 1 + self.decode_head.num_seen)

    def backbone_maps(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Maps of the backbone; in training its pooled stages are kept."""
        if self.old_model is None or not torch.is_grad_enabled():
            return super().backbone_maps(inputs)
        with self._watch_stages(self.backbone) as self._stages:
            return super().backbone_maps(inputs)

    def _watch_stages(self, backbone: nn.Module) -> AbstractContextManager[dict[str, Tensor]]:
        """Embeddings of the stages of a backbone that runs inside of the context; none of a frozen one's."""
        return nullcontext({}) if self.freeze_backbone else watch_stages(backbone, local_pod)

    def ask_old_model(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the old network and its pooled vectors: no maps, which would take a hundred times the memory."""
        if self.old_model is None:
            return {}
        with self._watch_stages(self.old_model.network.backbone) as stages:
            _, features = self.old_model.outputs(batch)
        logits = self.old_model.logits(batch, features)
        return {**self._pool(stages, features, logits), 'old logits': logits}

    def _pool(self, stages: dict[str, Tensor], features: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """Embeddings of all layers by name."""
        folded = fold_new_channels(logits, 1 + self.decode_head.num_old)
        # The head's own: with ``skip`` the backbone's map lies behind them, normalised by each network in its own way.
        own = features[:, :self.decode_head.channels]
        return {**stages, 'features': local_pod(own), 'logits': local_pod(folded)}

    def targets(self, batch: Batch) -> Tensor:
        """The labels, and on background what the old network is sure of."""
        target = super().targets(batch)
        if not batch.old:
            return target
        likeliest, uncertain = self._predictions(batch.old['old logits'], batch)
        pseudo = torch.where(uncertain < self.thresholds[likeliest], likeliest, IGNORED)
        return torch.where(batch.labels == BACKGROUND, pseudo, target)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy and, from task 1 on, local POD; all processes have as many images, so their means are right."""
        logits = self.logits(batch)
        ce = pixel_ce(self.at_label_size(logits, batch), batch.targets).mean((1, 2))
        if not batch.old:
            return {'loss_ce': ce.mean(), **self.auxiliary_losses(batch)}
        pooled, self._stages = self._pool(self._stages, batch.features, logits), {}
        head = self.decode_head
        still = count_stages(self.backbone, len(batch.prefix)) if self.freeze_backbone else 0
        scale = math.sqrt((1 + head.num_seen) / (head.num_seen - head.num_old)) / (len(pooled) + still)
        weights = dict.fromkeys(pooled, self.pod_weight) | {'logits': self.logits_weight}
        distances = [weights[name] * pod_distance(vectors, batch.old[name]) for name, vectors in pooled.items()]
        kept = kept_share(batch.labels == BACKGROUND, batch.targets)
        return {'loss_ce': (kept * ce).mean(), 'loss_pod': scale * torch.stack(distances).sum(),
                **self.auxiliary_losses(batch)}


def kept_share(background: Tensor, target: Tensor) -> Tensor:
    """Share of the background pixels (B, H, W) of each image that have a pseudo-label: float (B), 0 without any."""
    kept = background & (target != IGNORED)
    return kept.sum((1, 2)) / (background.sum((1, 2)) + 1e-6)
