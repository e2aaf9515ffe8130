"""The class index: scanning masks, loading the cache, and a data set of a million images."""
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ssul_mmseg.datasets.class_index import ClassIndex
from ssul_mmseg.datasets.scan import fingerprint_of
from ssul_mmseg.scenario import IGNORE

from .measure import Work, peak_memory, time_in_turns
from .settings import Options

SIZE = 375, 500
"""Height and width of a VOC image."""
DISTINCT = 200
"""Mask files that are written; the list repeats them, so they come from the file system's memory."""
VALUES_PER_IMAGE = 4
SIMULATED_VALUES = 1001


def write_masks(folder: Path, count: int) -> list[str]:
    """Write indexed PNG masks of VOC's size, each with rectangles of two classes and an ignored line."""
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, 768, dtype=np.uint8).tobytes()
    paths = []
    for i in range(count):
        mask = np.zeros(SIZE, dtype=np.uint8)
        for value in rng.integers(1, 21, 2):
            top, left = rng.integers(0, 200, 2)
            mask[top:top + 150, left:left + 250] = value
        mask[rng.integers(0, SIZE[0])] = IGNORE
        image = Image.fromarray(mask, mode='L').convert('P')
        image.putpalette(palette)
        paths.append(str(folder / f'{i}.png'))
        image.save(paths[-1])
    return paths


def simulate_index(images: int) -> ClassIndex:
    """An index of many images, each with a few of ``SIMULATED_VALUES`` values."""
    rng = np.random.default_rng(0)
    bits = np.zeros((images, (SIMULATED_VALUES + 7) // 8), dtype=np.uint8)
    rows = np.arange(images)
    for _ in range(VALUES_PER_IMAGE):
        values = rng.integers(0, SIMULATED_VALUES, images)
        bits[rows, values // 8] |= (128 >> values % 8).astype(np.uint8)
    return ClassIndex(bits, SIMULATED_VALUES)


def build_read(path: Path) -> Work:
    """Reading an index file."""
    return lambda: ClassIndex.read(path)


def build_queries(path: Path) -> Work:
    """Reading an index file and asking it what a task asks."""
    def ask() -> None:
        index, _ = ClassIndex.read(path)
        _query(index)

    return ask


def _query(index: ClassIndex) -> None:
    """What the data set of a task needs: its images, and how many hold each class."""
    index.with_any([SIMULATED_VALUES - 1])
    index.with_only(range(SIMULATED_VALUES // 2))
    index.counts()


def measure_index(options: Options) -> dict:
    """Seconds of a scan, of a cached load, and of a simulated large index with its memory.

    The simulated index is read, its masks are looked up for changes, and it is asked what a task asks.
    """
    scale = options.scale
    once = dataclasses.replace(options, scale=dataclasses.replace(scale, least_seconds=0.0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        distinct = write_masks(folder, min(DISTINCT, scale.masks))
        paths = [distinct[i % len(distinct)] for i in range(scale.masks)]
        cache, large = folder / 'index.npz', folder / 'large.npz'

        def scan() -> None:
            cache.unlink(missing_ok=True)
            ClassIndex.load(paths, cache)

        simulated = simulate_index(scale.simulated_images)
        masks = [distinct[i % len(distinct)] for i in range(scale.simulated_images)]
        simulated.write(large, 'simulated')
        seconds = time_in_turns({
            'scan': scan, 'cached_load': lambda: ClassIndex.load(paths, cache),
            'simulated_load': build_read(large), 'simulated_freshness': lambda: fingerprint_of(masks),
            'simulated_queries': lambda: _query(simulated),
        }, once, 'index')
        memory = {'load': peak_memory(build_read, large), 'load_and_queries': peak_memory(build_queries, large)}
    return {
        'masks': scale.masks,
        'distinct_masks': len(distinct),
        'mask_size': list(SIZE),
        'seconds': seconds,
        'masks_per_second': scale.masks / seconds['scan']['median'],
        'speedup_cached': seconds['scan']['median'] / seconds['cached_load']['median'],
        'simulated': {
            'images': scale.simulated_images, 'values': SIMULATED_VALUES, 'bytes': int(simulated.bits.nbytes),
            'peak_memory_bytes': memory,
        },
    }
