"""Evaluation of an image after a task that is not the first, from the image and from cached features."""
import torch
from mmseg.structures import SegDataSample

from ssul_mmseg.engine.feature_cache import FeatureCache
from ssul_mmseg.engine.loops import predict_entry
from ssul_mmseg.evaluation.metrics import IncrementalIoUMetric

from .measure import time_in_turns
from .networks import random_batch, samples_of, start_ssul
from .settings import SETTINGS, Options

SETTING = 'voc_15-1_task1'


def measure_evaluate(options: Options) -> dict:
    """Seconds per image: trunk, classifiers, argmax and metric, against the same without the trunk."""
    setting, batch = SETTINGS[SETTING], random_batch(options)
    model = start_ssul(options, setting.classes_per_task, setting.survivors, batch).eval()
    metric = IncrementalIoUMetric(setting.scenario, setting.task)
    cache, size = FeatureCache(), tuple(batch.inputs.shape[2:])
    labels = batch.labels.masked_fill(batch.new, setting.scenario.seen(setting.task)[-1])
    inputs, samples = batch.inputs[:1], samples_of(labels[:1])
    with torch.no_grad():
        cache.put(0, [cache.round_off(model.trunk(inputs))[0]], labels[0], (size, {}))

    def count(predicted: list[SegDataSample]) -> None:
        metric.results.clear()
        metric.process(None, [sample.to_dict() for sample in predicted])

    @torch.no_grad()
    def uncached() -> None:
        count(model.predict(inputs, samples))

    def cached() -> None:
        count([predict_entry(model, cache[0])])

    seconds = time_in_turns({'uncached': uncached, 'cached': cached}, options, 'evaluate')
    return {
        'setting': SETTING,
        'seconds_per_image': seconds,
        'speedup_cached': seconds['uncached']['median'] / seconds['cached']['median'],
    }
