"""The test images' features, kept from task to task, and in a folder for other runs."""
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import print_log

from ..errors import InputError
from ..models.segmentors import IncrementalSegmentor
from ..work_dir.files import digest
from ..work_dir.weights import tensor_digest
from .feature_cache import FeatureCache

OF_RUN = ('task', 'index_cache', 'quiet', 'scenario')
"""Keys of the test data set that change no image."""
OF_TASK = ('init_cfg', 'pretrained', 'classes_per_task', 'loss_decode', 'dropout_ratio')
"""Keys of a network's parts that change no feature of a test image, or are of one task alone."""


def fixed_name(model: IncrementalSegmentor, cfg: Config) -> str:
    """Checksum of what computes the kept features of test images: loading, layers and weights.

    Args:
        model: the network.
        cfg: the task's config.
    """
    loading = {**cfg.test_dataloader, 'dataset': _without(cfg.test_dataloader.dataset, OF_RUN)}
    layers = {key: _without(cfg.model.get(key), OF_TASK) for key in model.fixed_keys}
    settings = [loading, cfg.scenario.get('order'), layers, cfg.model.get('channels_last'), cfg.test_cfg.get('fp16')]
    weights = [f'{key} {tensor_digest(value)}' for key, value in model.fixed_state().items()]
    return digest('\n'.join([*map(str, settings), *weights]).encode())


def _without(part: Any, keys: Sequence[str]) -> Any:
    """A part of a config without some keys."""
    return {key: value for key, value in part.items() if key not in keys} if isinstance(part, dict) else part


class TestFeatures:
    """The test images' features, as long as what computes them is the same.

    With a ``test_folder`` they are written into it and read by every run of the same frozen network on the same
    images, such as the cells of a sweep: none of these passes the images through the network again.
    """

    def __init__(self) -> None:
        self._network = ''
        self._cache: FeatureCache | None = None
        self._path: Path | None = None

    def of(self, network: str, images: Callable[[], str], test_folder: str | None = None,
           **options: Any) -> FeatureCache:
        """The cache for a network; another network's features are dropped.

        Args:
            network: checksum of what computes the features, see :func:`fixed_name`.
            images: gives the checksum of the test images and masks; called where there is a folder.
            test_folder: where other runs find the features; None: nowhere.
            options: the arguments of :class:`FeatureCache`.
        """
        if network != self._network or self._cache is None:
            self.close()
            self._network, self._cache = network, FeatureCache(**options)
            # The other half is left to training, which uses its features more often.
            self._cache.limit //= 2
            if test_folder:
                share = f'{get_rank()} {get_world_size()}'
                name = digest(f'{network} {images()} {self._cache.dtype} {share}'.encode())
                self._path = Path(test_folder) / f'{name}.pth'
                self._load(self._cache, self._path)
        return self._cache

    @staticmethod
    def _load(cache: FeatureCache, path: Path) -> None:
        """Read what another run has written, if one has; a damaged file is as good as none."""
        if not path.is_file():
            return
        try:
            cache.load(path)
        except Exception as error:  # a damaged archive raises almost anything
            print_log(f'the features of test images in {path} cannot be read ({type(error).__name__}); they are '
                      'computed and written again', logger='current', level=logging.WARNING)

    def keep_for_other_runs(self) -> None:
        """Write the features into the folder, if there is one, they all fit, and no other run has written them."""
        cache, path = self._cache, self._path
        if cache is None or path is None or cache.full or not cache.used:
            return
        try:
            cache.save(path)
        except (InputError, RuntimeError) as error:  # PyTorch hides the error of a full disk behind its own
            print_log(f'the features of test images are not kept for other runs: {error}', logger='current',
                      level=logging.WARNING)
        self._path = None  # once

    @property
    def used(self) -> int:
        """Bytes that the features take."""
        return 0 if self._cache is None else self._cache.used

    def close(self) -> None:
        """Drop everything."""
        if self._cache is not None:
            self._cache.close()
        self._network, self._cache, self._path = '', None, None
