"""Write the saliency maps of a data set by one detector: whole or not at all; a second run adds what is missing."""
import contextlib
import datetime
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ..datasets.masks import read_mask
from ..errors import InputError
from ..work_dir.files import read_json, remove_leftovers, write_atomically, write_json
from . import THRESHOLD
from .photographs import read_photograph

MANIFEST = 'detector.json'
"""File in a folder of maps that says which detector made them."""
SALIENT = np.uint8(255)
"""Value of a salient pixel of a map; any other pixel is 0."""


class Detector(Protocol):
    """Anything that finds salient objects.

    Attributes:
        settings: name and every setting that changes a map, as JSON holds them.
    """

    settings: dict[str, Any]

    def detect(self, image: np.ndarray) -> np.ndarray:
        """Scores, float32 (h, w) of any size and range, of an image, uint8 (H, W, 3) RGB."""


def salient_pixels(scores: np.ndarray, shape: tuple[int, int], threshold: float) -> np.ndarray:
    """Make a hard map of scores: min-max normalised, resized to the image, cut at the threshold.

    Args:
        scores: float32 (h, w); equal scores everywhere mean that nothing stands out; so do scores that are no
            numbers, which a network that divides by their range gives for an image of one colour.
        shape: height and width of the image.
        threshold: between 0 and 1; what lies above is salient.

    Returns:
        uint8 (H, W): 0 or :data:`SALIENT`.
    """
    least, most = scores.min(), scores.max()
    if not most > least:
        return np.zeros(shape, np.uint8)
    normalised = (scores - least) / (most - least)
    resized = cv2.resize(normalised, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return (resized > threshold).astype(np.uint8) * SALIENT


@dataclass(frozen=True)
class Outcome:
    """What became of one photograph's map.

    Args:
        kept: whether a whole map was there before.
        fault: what is wrong with the photograph, else ''.
    """

    kept: bool = False
    fault: str = ''


class MapWriter(Dataset):
    """Makes the map of a photograph when it is indexed: a data set, so that data-loader workers share the work.

    Args:
        detector: finds salient objects.
        photographs: id -> file.
        out: folder of the maps, ``<id>.png``.
        threshold: what lies above is salient.
    """

    def __init__(self, detector: Detector, photographs: Mapping[str, Path], out: Path, threshold: float) -> None:
        self.detector, self.out, self.threshold = detector, out, threshold
        self.photographs = list(photographs.items())

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, position: int) -> Outcome:
        """Write the map of one photograph, unless a whole one is there.

        Raises:
            InputError: the map cannot be written.
        """
        name, file = self.photographs[position]
        target = self.out / f'{name}.png'
        if _is_whole(target):
            return Outcome(kept=True)
        try:
            image = read_photograph(file)
        except InputError as error:
            return Outcome(fault=error.fault)
        found = Image.fromarray(salient_pixels(self.detector.detect(image), image.shape[:2], self.threshold))
        with _write_faults(self.out):
            write_atomically(target, lambda stream: found.save(stream, 'PNG'))
        return Outcome()


def write_maps(detector: Detector, photographs: Mapping[str, Path], out: str | Path, processes: int = 1,
               threshold: float = THRESHOLD, overwrite: bool = False) -> str:
    """Write the saliency map of every photograph; whole maps of the same detector are kept.

    Args:
        detector: finds salient objects.
        photographs: id -> file.
        out: folder of the maps, ``<id>.png``, 0 and 255, at the size of the photograph.
        processes: how many work side by side.
        threshold: of the scores, normalised to 0 ... 1; what lies above is salient.
        overwrite: whether the maps that are there are deleted first.

    Returns:
        One line: how many maps were made and kept.

    Raises:
        InputError: the folder holds maps of another detector or photographs, cannot be written, is at work for another
            process, or photographs are damaged; then all others have their maps.
    """
    out = Path(out)
    _refuse_photographs(photographs, out)
    with _lock(out):
        _claim(out, {**detector.settings, 'threshold': threshold}, overwrite)
        writer = MapWriter(detector, photographs, out, threshold)
        # The loader returns outcomes in the photographs' order, each as soon as it is there.
        loader = DataLoader(writer, batch_size=None, num_workers=processes if processes > 1 else 0)
        try:
            outcomes = list(_show_progress(loader, len(writer)))
        except RuntimeError as error:
            if not str(error).startswith('DataLoader worker'):
                raise
            raise InputError(f'a process that makes maps died ({str(error).splitlines()[0]}), most often for lack of '
                             'memory; free some or lower --processes, then run the same command again: whole maps are '
                             'kept') from error
    faults = [outcome.fault for outcome in outcomes if outcome.fault]
    kept = sum(outcome.kept for outcome in outcomes)
    summary = f'{len(outcomes) - kept - len(faults)} maps made, {kept} kept in {out}'
    if faults:
        raise InputError(f'{summary}, but {len(faults)} of {len(outcomes)} photographs have none: {", ".join(faults)}; '
                         'replace these files with whole ones, then run the same command again')
    return summary


def _is_whole(path: Path) -> bool:
    """Whether a map is there and undamaged."""
    try:
        return path.exists() and bool(read_mask(str(path)).size)
    except InputError:
        return False


def _refuse_photographs(photographs: Mapping[str, Path], out: Path) -> None:
    """Refuse a folder in which a map would replace a photograph, or be taken for one in the next run."""
    folders = {file.parent.resolve() for file in photographs.values()}
    for name in photographs:
        if (out / name).parent.resolve() in folders:
            raise InputError(f'the map {name}.png would be written to {out}, among the photographs; choose another '
                             'folder with --out')


@contextlib.contextmanager
def _write_faults(out: Path) -> Iterator[None]:
    """Report a full disk or a folder that cannot be written to, with what to do about it here."""
    try:
        yield
    except (InputError, OSError) as error:
        if isinstance(error, OSError):
            fault = f'cannot write {error.filename or out} ({error.strerror or error})'
        else:
            fault = error.fault
        raise InputError(f'{fault}; free space or choose another folder with --out, then run the same command again: '
                         'whole maps are kept') from error


@contextlib.contextmanager
def _lock(out: Path) -> Iterator[None]:
    """Make the folder where it is missing and keep other processes out of it; the lock ends with this process."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise InputError(f'the folder {out} cannot be made or read ({error.strerror}); choose another one with '
                         '--out') from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f'another process writes maps to {out}; wait for it, or choose another folder with '
                             '--out') from error
        except OSError:
            pass  # some network file systems know no locks
        yield
    finally:
        os.close(descriptor)


def _claim(out: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Mark the folder as this detector's; a folder holds maps of one detector alone.

    Maps are deleted before the manifest changes, so that after a kill the manifest fits all maps that are left.
    """
    manifest = out / MANIFEST
    maps = sorted(out.rglob('*.png'))
    if maps and not manifest.exists():
        raise InputError(f'{out} holds {len(maps)} PNG files such as {maps[0].name} but no {MANIFEST}: another program '
                         'made them, and they are left as they are; move them away or choose another folder with --out')
    if manifest.exists() and not overwrite:
        _refuse_other(out, read_json(manifest), settings)
    with _write_faults(out):
        for folder in {out, *(path.parent for path in maps)}:
            remove_leftovers(folder)
        for path in maps if overwrite else ():
            path.unlink()
        write_json(manifest, settings)


def _refuse_other(out: Path, found: Any, settings: dict[str, Any]) -> None:
    """Refuse to mix maps of two detectors, and name the first setting in which they differ."""
    found = found if isinstance(found, dict) else {}
    for key in [*settings, *found]:
        if found.get(key) != settings.get(key):
            raise InputError(f'the maps in {out} were made with {key} {found.get(key)!r}, not {settings.get(key)!r}, '
                             'and are left as they are; choose another folder with --out, or replace all of them with '
                             '--overwrite')


def _show_progress(outcomes: DataLoader, total: int) -> Iterator[Outcome]:
    """Pass outcomes on and show progress: a line that redraws itself in a terminal, else a line now and then."""
    live = sys.stderr.isatty()
    start, shown, made = time.monotonic(), 0.0, 0
    for done, outcome in enumerate(outcomes, start=1):
        now = time.monotonic()
        made += not outcome.kept
        yield outcome
        if now - shown < (0.2 if live else 15) and done < total:
            continue
        shown = now
        # Kept maps take no time: estimate the time to go from the maps that were made.
        left = f'{datetime.timedelta(seconds=round((now - start) / made * (total - done)))} to go' if made else ''
        line = f'saliency maps {done}/{total} {done / total:4.0%}  {left}'.rstrip()
        end = '\n' if done == total or not live else ''
        print(f'\r\033[K{line}' if live else line, end=end, file=sys.stderr, flush=True)
