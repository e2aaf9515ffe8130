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

from .features import FeatureCache, check_cache, stacked
from .files import digest
from .models.segmentors import IncrementalSegmentor, of_one_size
from .processes import bare


def loaded(loader: DataLoader, batches: Iterable[Sequence[Hashable]]) -> Iterator[dict]:
    """Load batches of keys, empty ones left out.

    The workers of ``loader`` do it; none is started where there is nothing to load.
    """
    batches = [batch for batch in batches if batch]
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
            self.cache = FeatureCache(dtype, location, limit, runner.work_dir)
            self.dataloader.batch_sampler.views = views

    def run(self) -> nn.Module:
        """Train; the cache goes with the task."""
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
        missing = [[key for key in batch if key not in self.cache] for batch in batches]
        data = loaded(self.dataloader, missing)
        for idx, (keys, fresh) in enumerate(zip(batches, missing, strict=True), start=first):
            data_batch = next(data) if fresh else None
            features, labels = self._features(keys, fresh, data_batch)
            self._step(idx, features, labels, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    @torch.no_grad()
    def _features(self, keys: Sequence[Hashable], fresh: Sequence[Hashable], data_batch: dict | None
                  ) -> tuple[Tensor, Tensor]:
        """Features (B, channels, h, w) and finished labels (B, H, W) of a batch, the fresh ones computed and kept."""
        model = bare(self.runner.model)
        device = next(model.parameters()).device
        if not keys:
            # None of the batch's images belongs to this process; it takes part all the same.
            return (torch.zeros(0, model.decode_head.channels, 1, 1, device=device),
                    torch.zeros(0, 1, 1, dtype=torch.uint8, device=device))
        if data_batch is None:
            return stacked([self.cache[key] for key in keys], device)
        with self.runner.optim_wrapper.optim_context(model):
            data = model.data_preprocessor(data_batch, True)
            shown = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])
            computed = [self._compute(data['inputs'][part], shown[part]) for part in self._parts(len(shown))]
            features, labels = (torch.cat(tensors)[:len(shown)] for tensors in zip(*computed, strict=True))
        parts = dict(zip(fresh, zip(features, labels, strict=True), strict=True))
        for key, part in parts.items():
            self.cache.put(key, *part)
        old = [key for key in keys if key not in parts]
        if old:
            parts.update(zip(old, zip(*stacked([self.cache[key] for key in old], device), strict=True), strict=True))
        return torch.stack([parts[key][0] for key in keys]), torch.stack([parts[key][1] for key in keys])

    def _parts(self, count: int) -> Sequence[Tensor]:
        """Positions of ``count`` images in parts of one size, the last filled up from the start.

        The last bits of an image's features depend on the size of its batch, and how many images are missing depends
        on what is cached: a run that goes on with an empty cache would differ.
        """
        sampler = self.dataloader.batch_sampler
        size = min(sampler.local_size, sampler.new_per_batch)
        return (torch.arange(-(-count // size) * size) % count).split(size)

    def _compute(self, inputs: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Features as they come back from the cache, and finished labels, of images and the labels they show."""
        model = bare(self.runner.model)
        features = model.trunk(inputs)
        # The old model's labels come from the features as they are, not as they are kept.
        labels = model.decode_head.to_labels(model.targets(inputs, features, shown))
        return self.cache.rounded(features).contiguous(), labels

    def _step(self, idx: int, features: Tensor, labels: Tensor, data_batch: dict | None) -> None:
        """One update, as ``train_step`` makes it."""
        runner = self.runner
        runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        model, optim_wrapper = runner.model, runner.optim_wrapper
        with optim_wrapper.optim_context(model):
            losses = model(features, labels, mode='features')
        loss, outputs = bare(model).parse_losses(losses)
        optim_wrapper.update_params(loss)
        runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)
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
        return self.cache

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
    parts = [f'{key} {digest(value.cpu().contiguous().numpy().tobytes())}' for key, value in state.items()
             if not key.startswith('decode_head.classifiers.')]
    return digest('\n'.join([data, *parts]).encode())


@LOOPS.register_module()
class FeatureCacheTestLoop(TestLoop):
    """Evaluates on cached features of the test images, which a frozen trunk never changes.

    Args:
        runner: the runner.
        dataloader: the test data.
        evaluator: the metric.
        dtype: see :class:`~ssul_mmseg.features.FeatureCache`.
        location: see :class:`~ssul_mmseg.features.FeatureCache`.
        limit: see :class:`~ssul_mmseg.features.FeatureCache`.
    """

    def __init__(self, runner: Runner, dataloader: dict, evaluator: dict, dtype: str = 'float16',
                 location: str = 'memory', limit: float | None = None) -> None:
        super().__init__(runner, dataloader, evaluator)
        self.options = dict(dtype=dtype, location=location, limit=limit, folder=runner.work_dir)

    @torch.no_grad()
    def run(self) -> dict:
        """Evaluate; returns the metrics."""
        runner = self.runner
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
        device = next(model.parameters()).device
        outputs = []
        for key in keys:
            entry = cache[key]
            size, metainfo = entry.info
            sample = SegDataSample(metainfo=metainfo, gt_sem_seg=PixelData(data=entry.labels.unsqueeze(0).to(device)))
            features = entry.features.to(device).float().unsqueeze(0)
            outputs += model.predict_by_feat(features, size, [sample])
        return outputs
