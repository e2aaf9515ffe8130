"""Score how well saliency maps find the objects that masks mark."""
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..datasets.masks import read_mask
from ..errors import InputError
from ..scenario import BACKGROUND, IGNORE


@dataclass
class Score:
    """Pixels of a data set by what its masks and maps say of them.

    Args:
        images: how many images are counted.
        found: int64 (256, ), salient pixels by value of the mask.
        pixels: int64 (256, ), all pixels by value of the mask.
    """

    images: int = 0
    found: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))

    def add(self, salient: np.ndarray, mask: np.ndarray) -> None:
        """Count the pixels of one image.

        Args:
            salient: bool (H, W).
            mask: uint8 (H, W): BACKGROUND, IGNORE, any other value is an object.
        """
        self.images += 1
        self.found += np.bincount(mask[salient], minlength=256)
        self.pixels += np.bincount(mask.ravel(), minlength=256)

    def line(self) -> str:
        """IoU, precision and recall of the foreground over the data set, and the recall of each value of the masks."""
        objects = [value for value in np.flatnonzero(self.pixels) if value not in (BACKGROUND, IGNORE)]
        hits, all_objects = self.found[objects].sum(), self.pixels[objects].sum()
        salient = hits + self.found[BACKGROUND]
        union = all_objects + self.found[BACKGROUND]
        recalls = ', '.join(f'{value} {self.found[value] / self.pixels[value]:.2f}' for value in objects)
        return (f'foreground IoU {_share(hits, union)}, precision {_share(hits, salient)}, recall '
                f'{_share(hits, all_objects)} over {self.images} images; recall by value of the masks: {recalls}')


def score_maps(names: Iterable[str], maps: str | Path, masks: str | Path) -> Score:
    """Compare maps with masks; a photograph without a mask does not count.

    Args:
        names: ids of the photographs.
        maps: folder of the maps, ``<id>.png``.
        masks: folder of the masks, ``<id>.png``.

    Raises:
        InputError: no photograph has a mask, or a file is missing, damaged, or of another size.
    """
    score = Score()
    for name in names:
        mask_file, map_file = Path(masks, f'{name}.png'), Path(maps, f'{name}.png')
        if not mask_file.exists():
            continue
        mask, salient = read_mask(str(mask_file)), read_mask(str(map_file), 'saliency map') > 0
        if mask.shape != salient.shape:
            raise InputError(f'saliency map {map_file} is {salient.shape[1]} x {salient.shape[0]} pixels, but mask '
                             f'{mask_file} is {mask.shape[1]} x {mask.shape[0]}; they must be of one size')
        score.add(salient, mask)
    if not score.images:
        raise InputError(f'no photograph has a mask <id>.png in {masks}; give the folder of their masks with --score')
    return score


def _share(part: np.int64, whole: np.int64) -> str:
    """A part of a whole in four digits; no pixel at all is no share."""
    return f'{part / whole:.4f}' if whole else '-'
