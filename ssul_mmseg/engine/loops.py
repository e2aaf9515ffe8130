"""Training and test loops that pass each image through a frozen trunk or backbone once."""
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import chain

import torch
from mmengine.runner import EpochBasedTrainLoop, TestLoop
from mmengine.runner.amp import autocast
from mmengine.structures import PixelData
from mmseg.registry import LOOPS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ..models.one_pass import load
from ..models.segmentors import IncrementalSegmentor, of_one_size
from .feature_cache import Entry, FeatureCache, check_cache, stack
from .groups import due_groups, group_size
from .processes import unwrap
from .run_plan import VIEWS
from .runner import TaskRunner
from .shared_features import fixed_name


@LOOPS.register_module()
class TaskTrainLoop(EpochBasedTrainLoop):
    """Trains a task; the frozen part of the network sees each view of an image once.

    With a frozen trunk every image has ``views`` augmentations, reused in turn. In the first ``views`` epochs each is
    loaded, passed through the trunk and labelled as usual, and features and finished labels are kept; later epochs need
    neither images nor trunk. With a frozen backbone its maps are kept in the same way, and neck and head learn on them.
    A network of which nothing is frozen, or without a cache, sees a new augmentation at every visit.

    The uncached keys of an epoch pass the trunk once in it, in groups of one size across its batches. What the cache
    does not keep is held until its last use in the epoch: the rest of a group, less than a batch, and views of
    exemplars, which alone come again, never more than the epoch has keys.

    Args:
        runner: the runner.
        dataloader: the training data, with a ``ReplayBatchSampler``.
        max_epochs: number of epochs.
        feature_cache: ``views`` and the arguments of :class:`~ssul_mmseg.engine.feature_cache.FeatureCache`; None: keep
            nothing.
    """

    def __init__(self, runner: TaskRunner, dataloader: dict, max_epochs: int,
                 feature_cache: dict | None = None) -> None:
        super().__init__(runner, dataloader, max_epochs)
        self.cache: FeatureCache | None = None
        self.views: int | None = None
        # Where images belong to processes, one may be left without any, which only a frozen trunk can do.
        self.by_image = False
        model = unwrap(runner.model)
        if feature_cache and model.frozen_prefix:
            options = dict(feature_cache)
            self.views = options.pop('views', VIEWS)
            check_cache(self.views, **options)
            self.by_image = model.trunk_frozen
            self.cache = FeatureCache(
                **options, folder=runner.work_dir, taken=runner.scenario_run.test_features.used)
        self._data: Iterator[dict] | None = None

    def batch(self, iteration: int) -> list[tuple[int, int]]:
        """Keys of the whole batch of all processes of an iteration of the task."""
        return self.dataloader.batch_sampler.batch(iteration, self.views)

    def places(self, iteration: int) -> tuple[Sequence[int], int]:
        """Places in an iteration's batch of the images that this process has, and the size of the batch."""
        batch = self.batch(iteration)
        return self.dataloader.batch_sampler.own_places(batch, self.by_image), len(batch)

    def run(self) -> nn.Module:
        """Train, and drop the cache at the end of the task."""
        unwrap(self.runner.model).before_training(self.dataloader)
        try:
            return super().run()
        finally:
            self._data = None
            if self.cache is not None:
                self.cache.close()

    def run_epoch(self) -> None:
        """Train what is left of an epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        left = len(self.dataloader) - self._iter % len(self.dataloader)
        if self.cache is None:
            self._run_on_images(left)
        else:
            self._run_on_kept(self.cache, left)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _run_on_images(self, count: int) -> None:
        """Train ``count`` batches of newly loaded images."""
        if self._data is None:
            # One loader for the rest of the task: its workers outlive an epoch.
            sampler = self.dataloader.batch_sampler
            self._data = load(self.dataloader, sampler.batches(self._iter, self._max_iters - self._iter))
        for _ in range(count):
            self.run_iter(self._iter % len(self.dataloader), next(self._data))

    def _run_on_kept(self, cache: FeatureCache, count: int) -> None:
        """Train ``count`` batches of what the cache keeps, and compute what it lacks."""
        sampler, first = self.dataloader.batch_sampler, self._iter
        batches = list(sampler.batches(first, count, self.views, self.by_image))
        groups = due_groups(batches, cache, group_size(sampler))
        missing = list(chain.from_iterable(groups))
        data = load(self.dataloader, missing) if missing else iter(())
        # A later batch overwrites the place of an earlier one, so that the last use remains.
        last_use: dict[Hashable, int] = {}
        for place, keys in enumerate(batches):
            last_use.update(dict.fromkeys(keys, place))
        held: dict[Hashable, Entry] = {}
        for place, (keys, due) in enumerate(zip(batches, groups, strict=True)):
            for group in due:
                held.update(self._compute(cache, group, next(data)))
            entries = [held[key] if key in held else cache[key] for key in keys]
            model = unwrap(self.runner.model)
            device = next(model.parameters()).device
            # A process that has no image in the batch still has to join the all-reduces.
            kept, labels = stack(entries, device) if entries else model.nothing_kept()
            for key in keys:
                if last_use[key] == place:
                    held.pop(key, None)
            self._step((first + place) % len(self.dataloader), kept, labels)

    @torch.no_grad()
    def _compute(self, cache: FeatureCache, keys: Sequence[Hashable], data_batch: dict) -> dict[Hashable, Entry]:
        """Pass loaded images through the frozen part, put the result into the cache, and return what the cache refused.

        The last bits of an image's features depend on the size of its batch, not on what else is in it: a smaller
        group is filled up, as a run that goes on with an empty cache has other groups.
        """
        model = unwrap(self.runner.model)
        with self.runner.optim_wrapper.optim_context(model):
            data = model.data_preprocessor(data_batch, True)
            filled = torch.arange(group_size(self.dataloader.batch_sampler)) % len(keys)
            shown = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])[filled]
            # The old model's labels come from the features as they are, not as they are kept.
            kept, labels = model.keep(data['inputs'][filled], shown)
        refused = {}
        for place, key in enumerate(keys):
            features = [part[place] for part in kept]
            cache.put(key, features, labels[place])
            if key not in cache:
                refused[key] = cache.copy_out(features, labels[place])
        return refused

    def _step(self, idx: int, kept: Sequence[Tensor], labels: Tensor) -> None:
        """Make one update from kept features, as ``train_step`` makes it from images."""
        runner = self.runner
        runner.call_hook('before_train_iter', batch_idx=idx, data_batch=None)
        model, optim_wrapper = runner.model, runner.optim_wrapper
        with optim_wrapper.optim_context(model):
            losses = model(kept, labels, mode='kept')
        loss, outputs = unwrap(model).parse_losses(losses)
        optim_wrapper.update_params(loss)
        runner.call_hook('after_train_iter', batch_idx=idx, data_batch=None, outputs=outputs)
        self._iter += 1


@LOOPS.register_module()
class TaskTestLoop(TestLoop):
    """Evaluates on what is kept of the test images, where no later task changes trunk or backbone; else as usual.

    Args:
        runner: the runner.
        dataloader: the test data.
        evaluator: the metric.
        fp16: whether to compute in mixed precision.
        feature_cache: ``test_folder`` and the arguments of :class:`~ssul_mmseg.engine.feature_cache.FeatureCache`;
            None: keep nothing.
    """

    def __init__(self, runner: TaskRunner, dataloader: dict, evaluator: dict, fp16: bool = False,
                 feature_cache: dict | None = None) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        self.options = None if feature_cache is None else dict(feature_cache, folder=runner.work_dir)

    @torch.no_grad()
    def run(self) -> dict:
        """Evaluate; returns the metrics."""
        runner = self.runner
        model = unwrap(runner.model)
        if self.options is None or not model.fixed_prefix or not model.predicts_from_features:
            return super().run()
        runner.call_hook('before_test')
        runner.call_hook('before_test_epoch')
        model.eval()
        cache = runner.scenario_run.test_features.of(
            fixed_name(model, runner.cfg), self.dataloader.dataset.digest, **self.options)
        batches = list(self.dataloader.batch_sampler)
        cached = [_has_all(cache, batch) for batch in batches]
        missing = [batch for batch, known in zip(batches, cached, strict=True) if not known]
        data = load(self.dataloader, missing) if missing else iter(())
        for idx, (keys, known) in enumerate(zip(batches, cached, strict=True)):
            runner.call_hook('before_test_iter', batch_idx=idx, data_batch=None)
            outputs = self._predict_from_cache(cache, keys) if known else self._predict_fresh(cache, keys, next(data))
            self.evaluator.process(data_samples=outputs, data_batch=None)
            runner.call_hook('after_test_iter', batch_idx=idx, data_batch=None, outputs=outputs)
        runner.scenario_run.test_features.keep_for_other_runs()
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        runner.call_hook('after_test_epoch', metrics=metrics)
        runner.call_hook('after_test')
        return metrics

    def _predict_fresh(self, cache: FeatureCache, keys: Sequence[int], data_batch: dict) -> list[SegDataSample]:
        """Predict images and cache them; one by one, as those from the cache are, so that rounding is the same."""
        model = unwrap(self.runner.model)
        outputs: list[SegDataSample] = []
        for part in of_one_size(data_batch):
            with autocast(enabled=self.fp16):
                data = model.data_preprocessor(part, False)
                fixed = [cache.round_off(maps).contiguous() for maps in model.fixed_part(data['inputs'])]
            size = tuple(data['inputs'].shape[2:])
            for place, sample in enumerate(data['data_samples']):
                entry = Entry(tuple(maps[place] for maps in fixed), sample.gt_sem_seg.data[0], (size, sample.metainfo))
                cache.put(keys[len(outputs)], entry.features, entry.labels, entry.info)
                outputs.append(predict_entry(model, entry, self.fp16))
        return outputs

    def _predict_from_cache(self, cache: FeatureCache, keys: Sequence[int]) -> list[SegDataSample]:
        """Predict cached images; they may differ in size."""
        model = unwrap(self.runner.model)
        return [predict_entry(model, cache[key], self.fp16) for key in keys]


def _has_all(cache: FeatureCache, keys: Iterable[Hashable]) -> bool:
    """Whether a cache holds all images of a batch."""
    return all(key in cache for key in keys)


@torch.no_grad()
def predict_entry(model: IncrementalSegmentor, entry: Entry, fp16: bool = False) -> SegDataSample:
    """Predict an image from its entry, whose ``info`` is the size of the network's input and mmseg's metainfo.

    Args:
        model: the network.
        entry: with what ``model.fixed_part`` made of the image.
        fp16: whether to compute what follows in mixed precision, up to the features.
    """
    device, (size, metainfo) = next(model.parameters()).device, entry.info
    sample = SegDataSample(metainfo=metainfo, gt_sem_seg=PixelData(data=entry.labels.unsqueeze(0).to(device)))
    fixed = [maps.to(device).float().unsqueeze(0) for maps in entry.features]
    with autocast(enabled=fp16):
        features = model.features_of(fixed)
    sample, = model.predict_by_feat(features.float(), size, [sample])
    return sample
