"""Training and test loops that pass each image through a frozen trunk once."""
from collections.abc import Hashable, Iterable, Iterator, Sequence

import torch
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, Runner, TestLoop
from mmengine.runner.amp import autocast
from mmengine.structures import PixelData
from mmseg.registry import LOOPS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..models.segmentors import IncrementalSegmentor, of_one_size
from ..work_dir.files import digest
from ..work_dir.weights import tensor_digest
from .feature_cache import Entry, FeatureCache, check_cache, stacked
from .groups import due_groups, group_size
from .processes import bare


def loaded(loader: DataLoader, batches: Iterable[Sequence[Hashable]]) -> Iterator[dict]:
    """Load batches of keys by the workers of ``loader``; none is started where there is nothing to load."""
    batches = list(batches)
    if not batches:
        return iter(())
    return iter(DataLoader(
        loader.dataset, batch_sampler=batches, num_workers=loader.num_workers, collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory))


@LOOPS.register_module()
class FeatureCacheTrainLoop(EpochBasedTrainLoop):
    """Trains classifiers on cached features; a model whose trunk is not frozen is trained as usual.

    Every image has ``views`` augmentations, reused in turn. In the first ``views`` epochs each is loaded, passed
    through the trunk and labelled as usual, and features and finished labels are kept; later epochs need neither
    images nor trunk.

    What an epoch lacks passes the trunk once in it, in groups of one size across its batches. What the cache does not
    keep is held until its last use in the epoch: the rest of a group, less than a batch, and views of exemplars, which
    alone come again, never more than the epoch has keys.

    Args:
        runner: the runner.
        dataloader: the training data, with a ``ReplayBatchSampler``.
        max_epochs: number of epochs.
        views: augmentations per image.
        dtype: see :class:`~ssul_mmseg.features.FeatureCache`.
        location: see :class:`~ssul_mmseg.features.FeatureCache`.
        limit: see :class:`~ssul_mmseg.features.FeatureCache`.
    """

    def __init__(self, runner: Runner, dataloader: dict, max_epochs: int, views: int = 5, dtype: str = 'float16',
                 location: str = 'memory', limit: float | None = None) -> None:
        check_cache(views)
        super().__init__(runner, dataloader, max_epochs)
        self.cache: FeatureCache | None = None
        if bare(runner.model).trunk_frozen:
            self.cache = FeatureCache(dtype, location, limit, runner.work_dir, test_features.used)
            self.dataloader.batch_sampler.views = views

    def run(self) -> nn.Module:
        """Train, and drop the cache at the end of the task."""
        try:
            return super().run()
        finally:
            if self.cache is not None:
                self.cache.close()

    def run_epoch(self) -> None:
        """Train one epoch."""
        if self.cache is None:
            super().run_epoch()
            return
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        sampler = self.dataloader.batch_sampler
        first = sampler.first_iteration
        batches = list(sampler)
        groups = due_groups(batches, self.cache, group_size(sampler))
        data = loaded(self.dataloader, (group for due in groups for group in due))
        last_use = {key: place for place, keys in enumerate(batches) for key in keys}
        held: dict[Hashable, Entry] = {}
        for place, (keys, due) in enumerate(zip(batches, groups, strict=True)):
            for group in due:
                held.update(self._computed(group, next(data)))
            features, labels = self._features([held[key] if key in held else self.cache[key] for key in keys])
            for key in keys:
                if last_use[key] == place:
                    held.pop(key, None)
            self._step(first + place, features, labels)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _features(self, entries: Sequence[Entry]) -> tuple[Tensor, Tensor]:
        """Features (B, channels, h, w) and finished labels (B, H, W) of a batch."""
        model = bare(self.runner.model)
        device = next(model.parameters()).device
        if not entries:
            # None of the batch's images belongs to this process; it still joins the reductions.
            return (torch.zeros(0, model.decode_head.channels, 1, 1, device=device),
                    torch.zeros(0, 1, 1, dtype=torch.uint8, device=device))
        return stacked(entries, device)

    @torch.no_grad()
    def _computed(self, keys: Sequence[Hashable], data_batch: dict) -> dict[Hashable, Entry]:
        """Pass loaded images through the trunk and label them; returns what of it the cache does not keep.

        The last bits of an image's features depend on the size of its batch, not on what else is in it: a smaller
        group is filled up, as a run that goes on with an empty cache has other groups.
        """
        model = bare(self.runner.model)
        with self.runner.optim_wrapper.optim_context(model):
            data = model.data_preprocessor(data_batch, True)
            filled = torch.arange(group_size(self.dataloader.batch_sampler)) % len(keys)
            inputs = data['inputs'][filled]
            shown = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])[filled]
            features = model.trunk(inputs)
            # The old model's labels come from the features as they are, not as they are kept.
            labels = model.decode_head.to_labels(model.targets(inputs, features, shown))
        parts = dict(zip(keys, zip(features, labels, strict=True), strict=False))
        for key, part in parts.items():
            self.cache.put(key, *part)
        return {key: self.cache.copied(*part) for key, part in parts.items() if key not in self.cache}

    def _step(self, idx: int, features: Tensor, labels: Tensor) -> None:
        """One update, as ``train_step`` makes it."""
        runner = self.runner
        runner.call_hook('before_train_iter', batch_idx=idx, data_batch=None)
        model, optim_wrapper = runner.model, runner.optim_wrapper
        with optim_wrapper.optim_context(model):
            losses = model(features, labels, mode='features')
        loss, outputs = bare(model).parse_losses(losses)
        optim_wrapper.update_params(loss)
        runner.call_hook('after_train_iter', batch_idx=idx, data_batch=None, outputs=outputs)
        self._iter += 1


class _TestFeatures:
    """The test images' features, kept from task to task as long as the trunk is the same."""

    def __init__(self) -> None:
        self.trunk = ''
        self.cache: FeatureCache | None = None

    def of(self, trunk: str, **options: object) -> FeatureCache:
        """The cache for a trunk; another trunk's features are dropped."""
        if trunk != self.trunk or self.cache is None:
            self.close()
            self.trunk, self.cache = trunk, FeatureCache(**options)
            # Training, which uses its features more often, has at least the other half.
            self.cache.limit //= 2
        return self.cache

    @property
    def used(self) -> int:
        """Bytes that the features take."""
        return 0 if self.cache is None else self.cache.used

    def close(self) -> None:
        """Drop everything."""
        if self.cache is not None:
            self.cache.close()
        self.trunk, self.cache = '', None


test_features = _TestFeatures()


def test_data_name(cfg: Config) -> str:
    """The test data in words: the same in every task, as they show all classes whichever the task is."""
    return str({**cfg.test_dataloader, 'dataset': {**cfg.test_dataloader.dataset, 'task': None}})


def trunk_digest(model: IncrementalSegmentor, data: str) -> str:
    """Checksum of everything below the classifiers, and of what it is applied to."""
    state = model.state_dict()
    parts = [f'{key} {tensor_digest(value)}' for key, value in state.items()
             if not key.startswith('decode_head.classifiers.')]
    return digest('\n'.join([data, *parts]).encode())


@LOOPS.register_module()
class FeatureCacheTestLoop(TestLoop):
    """Evaluates on cached features of the test images, where no later task changes the trunk; else as usual.

    Args:
        runner: the runner.
        dataloader: the test data.
        evaluator: the metric.
        fp16: whether to compute in mixed precision.
        dtype: see :class:`~ssul_mmseg.features.FeatureCache`.
        location: see :class:`~ssul_mmseg.features.FeatureCache`.
        limit: see :class:`~ssul_mmseg.features.FeatureCache`.
    """

    def __init__(self, runner: Runner, dataloader: dict, evaluator: dict, fp16: bool = False, dtype: str = 'float16',
                 location: str = 'memory', limit: float | None = None) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        self.options = dict(dtype=dtype, location=location, limit=limit, folder=runner.work_dir)

    @torch.no_grad()
    def run(self) -> dict:
        """Evaluate; returns the metrics."""
        runner = self.runner
        if not bare(runner.model).trunk_stays:
            return super().run()
        runner.call_hook('before_test')
        runner.call_hook('before_test_epoch')
        model = bare(runner.model).eval()
        cache = test_features.of(trunk_digest(model, test_data_name(runner.cfg)), **self.options)
        batches = list(self.dataloader.batch_sampler)
        cached = [all(key in cache for key in batch) for batch in batches]
        data = loaded(self.dataloader, (batch for batch, known in zip(batches, cached, strict=True) if not known))
        for idx, (keys, known) in enumerate(zip(batches, cached, strict=True)):
            runner.call_hook('before_test_iter', batch_idx=idx, data_batch=None)
            outputs = self._predict_cached(cache, keys) if known else self._predict_fresh(cache, keys, next(data))
            self.evaluator.process(data_samples=outputs, data_batch=None)
            runner.call_hook('after_test_iter', batch_idx=idx, data_batch=None, outputs=outputs)
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        runner.call_hook('after_test_epoch', metrics=metrics)
        runner.call_hook('after_test')
        return metrics

    def _predict_fresh(self, cache: FeatureCache, keys: Sequence[int], data_batch: dict) -> list[SegDataSample]:
        """Predict images and cache them; one by one, as those from the cache are, so that rounding is the same."""
        model = bare(self.runner.model)
        outputs = []
        for part in of_one_size(data_batch):
            with autocast(enabled=self.fp16):
                data = model.data_preprocessor(part, False)
                features = cache.rounded(model.trunk(data['inputs'])).contiguous()
            size = tuple(data['inputs'].shape[2:])
            for kept, sample in zip(features, data['data_samples'], strict=True):
                cache.put(keys[len(outputs)], kept, sample.gt_sem_seg.data[0], (size, sample.metainfo))
                outputs += model.predict_by_feat(kept.unsqueeze(0), size, [sample])
        return outputs

    def _predict_cached(self, cache: FeatureCache, keys: Sequence[int]) -> list[SegDataSample]:
        """Predict cached images; they may differ in size."""
        model = bare(self.runner.model)
        return [predict_entry(model, cache[key]) for key in keys]


@torch.no_grad()
def predict_entry(model: IncrementalSegmentor, entry: Entry) -> SegDataSample:
    """Predict an image from its entry, whose ``info`` is the size of the network's input and mmseg's metainfo."""
    device, (size, metainfo) = next(model.parameters()).device, entry.info
    sample = SegDataSample(metainfo=metainfo, gt_sem_seg=PixelData(data=entry.labels.unsqueeze(0).to(device)))
    sample, = model.predict_by_feat(entry.features.to(device).float().unsqueeze(0), size, [sample])
    return sample
