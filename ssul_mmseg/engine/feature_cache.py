"""Keep what a frozen trunk or backbone computes of an image, in memory or in a mapped file, so that it runs once."""
import logging
import os
import tempfile
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from torch import Tensor

from ..errors import InputError
from ..machine import free_disk, free_memory, processes_here
from ..work_dir.files import write_atomically

LOCATIONS = ('ram', 'disk')
DTYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16, 'float32': torch.float32}
ALIGNMENT = 64
# Bytes of a file of location 'disk': the cache grows file by file, so a small data set takes little room.
FILE_SIZE = 1 << 28


@dataclass(frozen=True)
class Entry:
    """What is kept of one image in one view.

    Args:
        features: tensors (channels, h, w), in the cache's dtype: one of features, or a backbone's maps.
        labels: uint8 (H, W), finished labels.
        info: anything else that the loop needs to use the entry.
    """

    features: tuple[Tensor, ...]
    labels: Tensor
    info: Any = None


def check_cache(views: int = 1, dtype: str = 'float16', location: str = 'ram', limit: float | None = None,
                test_folder: str | None = None) -> None:
    """Check the values of a config's ``feature_cache``.

    Args:
        views: augmentations of each image, at least 1.
        dtype: of the kept features: 'float16', 'bfloat16' or 'float32'.
        location: 'ram' or 'disk'.
        limit: gigabytes (10^9 bytes) of this process; None: its share of half of what is free.
        test_folder: where features of test images are kept for other runs, see
            :class:`~ssul_mmseg.engine.shared_features.TestFeatures`; None: nowhere.

    Raises:
        InputError: a value is none of these.
    """
    if type(views) is not int or views < 1:
        raise InputError(f'feature_cache.views is {views!r}; it is a number of augmentations per image, at least 1')
    if location not in LOCATIONS:
        raise InputError(f'feature_cache.location is {location!r}; choose one of {", ".join(LOCATIONS)}')
    if dtype not in DTYPES:
        raise InputError(f'feature_cache.dtype is {dtype!r}; choose one of {", ".join(DTYPES)}')
    if limit is not None and (type(limit) not in (int, float) or not 0 <= limit < float('inf')):
        raise InputError(f'feature_cache.limit is {limit!r}; it is a number of gigabytes, or None for half of what is '
                         'free')
    if test_folder is not None and (not isinstance(test_folder, str) or not test_folder):
        raise InputError(f'feature_cache.test_folder is {test_folder!r}; it is a folder, or None')


class FeatureCache:
    """Features and labels by key, as many as fit.

    Args:
        dtype: 'float16', 'bfloat16' or 'float32'. Features are rounded to it on every use, the first one included, so
            that results do not depend on what is cached.
        location: 'ram', or 'disk', nameless files, gone with :meth:`close` or with the process.
        limit: gigabytes (10^9 bytes) that the features of this process may take; None: its share of half of the free
            memory or disk.
        folder: where the files of location 'disk' lie.
        taken: bytes of the limit that another cache of this process has taken.
    """

    def __init__(self, dtype: str = 'float16', location: str = 'ram', limit: float | None = None,
                 folder: str | Path = '.', taken: int = 0) -> None:
        check_cache(dtype=dtype, location=location, limit=limit)
        self.dtype = DTYPES[dtype]
        self.folder = Path(folder) if location == 'disk' else None
        whole = int(limit * 1e9) if limit is not None else (self._free_bytes() + taken) // 2
        self.limit = max(0, whole - taken)
        self.used = 0
        self.full = False
        self._entries: dict[Hashable, Entry] = {}
        self._space = torch.empty(0, dtype=torch.uint8)

    def _free_bytes(self) -> int:
        """This process's share of the free room; all processes share a disk, those of one machine its memory."""
        return free_disk(self.folder) // get_world_size() if self.folder else free_memory() // processes_here()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def __getitem__(self, key: Hashable) -> Entry:
        return self._entries[key]

    def __len__(self) -> int:
        return len(self._entries)

    def round_off(self, features: Tensor) -> Tensor:
        """Round float features as the cache does; returns float32."""
        return features.to(self.dtype).float()

    def put(self, key: Hashable, features: Sequence[Tensor], labels: Tensor, info: Any = None) -> None:
        """Keep features, each (channels, h, w), and uint8 labels (H, W) under a key, if they fit."""
        if self.full or key in self._entries:
            return
        try:
            kept = tuple(self._keep(part.detach().to(self.dtype)) for part in features), self._keep(labels)
        except (MemoryError, RuntimeError, OSError) as error:
            self.full = True
            reason = f' ({error.strerror})' if isinstance(error, OSError) else ''
            print_log(f'the feature cache is full{reason}: {len(self)} views in {self.used / 1e9:.2f} GB are kept, all '
                      'others are computed at every use; a larger feature_cache.limit, or more room, would be faster',
                      logger='current', level=logging.WARNING)
            return
        self._entries[key] = Entry(*kept, info)

    def copy_out(self, features: Sequence[Tensor], labels: Tensor) -> Entry:
        """Make an entry of features and uint8 labels (H, W) as :meth:`put` does, but leave it to the caller."""
        return Entry(tuple(_copy(part.detach().to(self.dtype)) for part in features), _copy(labels))

    def _keep(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the CPU, aligned; raise :class:`MemoryError` if it exceeds the limit."""
        exact = tensor.numel() * tensor.element_size()
        size = -(-exact // ALIGNMENT) * ALIGNMENT
        # If the rest of the last file is too small, it stays unused and counts as used.
        used = self.used + (len(self._space) if size > len(self._space) else 0)
        if used + size > self.limit:
            raise MemoryError
        if self.folder:
            if size > len(self._space):
                self._space = self._map_file(max(size, min(FILE_SIZE, self.limit - used)))
            place, self._space = self._space[:exact], self._space[size:]
            kept = place.view(tensor.dtype).view(tensor.shape).copy_(tensor)
        else:
            kept = _copy(tensor)
        self.used = used + size
        return kept

    def _map_file(self, size: int) -> Tensor:
        """Map a file whose bytes are reserved: without that, a full disk would kill the process when it writes them."""
        # The mapping outlives the file's name. The next run removes a file that a kill leaves, by its suffix.
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix='.features_', suffix=f'.{os.getpid()}.tmp') as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return torch.from_file(file.name, shared=True, size=size, dtype=torch.uint8)

    def save(self, path: Path) -> None:
        """Write all entries into a file, whole or not at all.

        Raises:
            InputError: the file cannot be written.
        """
        keys, entries = [*self._entries], [*self._entries.values()]
        content = {'keys': keys, 'features': [entry.features for entry in entries],
                   'labels': [entry.labels for entry in entries], 'infos': [entry.info for entry in entries]}
        write_atomically(path, lambda file: torch.save(content, file))

    def load(self, path: Path) -> None:
        """Take over the entries of a file that :meth:`save` wrote; they are mapped, so they take none of the limit."""
        content = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
        parts = (content[name] for name in ('keys', 'features', 'labels', 'infos'))
        for key, features, labels, info in zip(*parts, strict=True):
            self._entries[key] = Entry(features, labels, info)

    def close(self) -> None:
        """Forget everything and give its room back."""
        self._entries.clear()
        self.used = 0
        self._space = self._space[:0].clone()


def _copy(tensor: Tensor) -> Tensor:
    """Copy a tensor to the CPU, contiguous; a view would keep the larger tensor alive."""
    return tensor.to('cpu', copy=True, memory_format=torch.contiguous_format)


def stack(entries: Sequence[Entry], device: torch.device) -> tuple[tuple[Tensor, ...], Tensor]:
    """Stack entries of one size on a device: float32 features, each (B, channels, h, w), uint8 labels (B, H, W)."""
    parts = zip(*(entry.features for entry in entries), strict=True)
    features = tuple(torch.stack(part).to(device, non_blocking=True).float() for part in parts)
    return features, torch.stack([entry.labels for entry in entries]).to(device, non_blocking=True)
