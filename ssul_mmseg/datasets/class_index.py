"""Index which values each mask of a data set holds: scan once in parallel, cache, and scan again when files change."""
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from ..errors import InputError
from ..machine import usable_cores
from ..work_dir.files import digest, write_atomically
from .scan import MASK_VALUES, fingerprint_of, scan_masks

FORMAT = 2
"""Version of the cache file; raise it when the file's layout or the meaning of its content changes."""
ROWS = 1 << 14
"""Images per step of a query: bounds its memory, whatever the size of the data set."""


class ClassIndex:
    """Which values each mask of a data set holds, one packed bit per value.

    Args:
        bits: uint8 (num_images, ceil(num_values / 8)), in the order of ``np.packbits``.
        num_values: values run from 0 to ``num_values - 1``; default: as many as ``bits`` has.

    Raises:
        InputError: ``bits`` has another type or shape, or marks a value that is out of range.
    """

    def __init__(self, bits: np.ndarray, num_values: int | None = None) -> None:
        if bits.dtype != np.uint8 or bits.ndim != 2:
            raise InputError(f'the bits of a class index must be uint8 (num_images, bytes), not {bits.dtype} '
                             f'{bits.shape}')
        self.num_values = 8 * bits.shape[1] if num_values is None else num_values
        if bits.shape[1] != (self.num_values + 7) // 8:
            raise InputError(f'a class index of {self.num_values} values needs {(self.num_values + 7) // 8} bytes an '
                             f'image, not {bits.shape[1]}')
        if self.num_values % 8 and np.any(bits[:, -1] & (0xFF >> self.num_values % 8)):
            raise InputError(f'the bits of a class index mark values above {self.num_values - 1}')
        self.bits = np.ascontiguousarray(bits)

    @classmethod
    def load(cls, mask_paths: Sequence[str], cache: str | Path, workers: int | None = None, quiet: bool = False
             ) -> 'ClassIndex':
        """Read the cache if it is fresh, else scan all masks and write the cache.

        The cache is fresh if it was made from files of these paths, sizes and times of modification. A cache that is
        damaged or cannot be written costs a warning and time, never a wrong answer.

        Args:
            mask_paths: one mask an image.
            cache: the cache file.
            workers: processes to scan with; default: one for each core that this process may use.
            quiet: whether a scan of many masks shows no progress.

        Raises:
            InputError: a mask is missing or cannot be read; the first such, in the order of ``mask_paths``.
        """
        # Computed before the scan: if a mask changes during the scan, the cache is stale, not wrong.
        fingerprint = fingerprint_of(mask_paths)
        if os.path.lexists(cache):
            try:
                index, source = cls.read(cache)
                if source == fingerprint and index.bits.shape == (len(mask_paths), MASK_VALUES // 8):
                    return index
            except InputError as error:
                print_log(f'{error}; scanning the masks again', logger='current', level=logging.WARNING)
        index = cls(scan_masks(mask_paths, usable_cores() if workers is None else workers, quiet))
        try:
            index.write(cache, fingerprint)
        # OSError too: on a read-only disk, removing the temporary file fails as well.
        except (InputError, OSError) as error:
            print_log(f'class index {cache} cannot be written ({error.__cause__ or error}); this run goes on, the next '
                      'scans the masks again', logger='current', level=logging.WARNING)
        return index

    @classmethod
    def read(cls, path: str | Path) -> tuple['ClassIndex', str]:
        """Read an index and the fingerprint of the masks it was made from.

        Raises:
            InputError: the file is missing, damaged, or of another version.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                version, num_values, fingerprint, checksum, bits = (
                    file[key] for key in ('version', 'num_values', 'fingerprint', 'checksum', 'bits'))
            version, num_values, fingerprint = int(version), int(num_values), str(fingerprint)
        except OSError as error:
            raise InputError(f'class index {path} cannot be read ({error.strerror or error})') from error
        except Exception as error:  # damaged zip files and array headers raise almost anything
            raise InputError(f'class index {path} is damaged or of another version') from error
        if version != FORMAT:
            raise InputError(f'class index {path} is of version {version}, not {FORMAT}')
        if str(checksum) != _checksum(bits, num_values, fingerprint):
            raise InputError(f'class index {path} is damaged (its checksum differs)')
        return cls(bits, num_values), fingerprint

    def write(self, path: str | Path, fingerprint: str) -> None:
        """Write the index atomically.

        Raises:
            InputError: the file cannot be written.
        """
        checksum = _checksum(self.bits, self.num_values, fingerprint)
        write_atomically(path, lambda file: np.savez(
            file, version=FORMAT, num_values=self.num_values, fingerprint=fingerprint, checksum=checksum,
            bits=self.bits))

    def __len__(self) -> int:
        return len(self.bits)

    def values(self, image: int) -> list[int]:
        """Values in the mask of ``image``, ascending."""
        return np.flatnonzero(np.unpackbits(self.bits[image])).tolist()

    def counts(self) -> np.ndarray:
        """Count the images that hold each value: int64 (num_values,)."""
        # Count whole bytes first, then share each byte value's count out to its bits: no unpacked copy of the index.
        counts = np.zeros((self.bits.shape[1], 256), dtype=np.int64)
        for start in range(0, len(self), ROWS):
            for column, found in enumerate(self.bits[start:start + ROWS].T):
                counts[column] += np.bincount(found, minlength=256)
        bits_of_byte = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
        return (counts @ bits_of_byte).ravel()[:self.num_values]

    def with_any(self, values: Iterable[int]) -> np.ndarray:
        """Find the images that hold at least one of ``values``: bool (num_images,)."""
        return self._touches(_pack(values, self.num_values))

    def with_only(self, values: Iterable[int]) -> np.ndarray:
        """Find the images that hold nothing but ``values``, all or some of them: bool (num_images,)."""
        return ~self._touches(~_pack(values, self.num_values))

    def _touches(self, query: np.ndarray) -> np.ndarray:
        """Whether each image has a bit in common with ``query``, uint8 (bytes,)."""
        touched = np.empty(len(self), dtype=bool)
        columns = np.flatnonzero(query)
        for start in range(0, len(self), ROWS):
            rows = slice(start, start + ROWS)
            touched[rows] = (self.bits[rows, columns] & query[columns]).any(axis=1)
        return touched


def _pack(values: Iterable[int], num_values: int) -> np.ndarray:
    """Pack a set of values into uint8 (ceil(num_values / 8),)."""
    held = np.zeros(num_values, dtype=bool)
    for value in values:
        if not 0 <= value < num_values:
            raise InputError(f'value {value} is outside the class index, which holds 0 to {num_values - 1}')
        held[value] = True
    return np.packbits(held)


def _checksum(bits: np.ndarray, num_values: int, fingerprint: str) -> str:
    """Checksum of all that the cache file holds."""
    return digest(f'{FORMAT} {num_values} {fingerprint} {bits.shape} '.encode() + bits.tobytes())
