"""CamVid, road scenes with 11 classes: as they are (dense), and as six object classes on a background."""
from collections.abc import Sequence
from typing import ClassVar

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

CLASSES = ('sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car', 'pedestrian', 'bicyclist')
THINGS = ('pole', 'sign', 'fence', 'car', 'pedestrian', 'bicyclist')
PALETTE = dict(
    sky=[128, 128, 128], building=[128, 0, 0], pole=[192, 192, 128], road=[128, 64, 128], pavement=[60, 40, 222],
    tree=[128, 128, 0], sign=[192, 128, 128], fence=[64, 64, 128], car=[64, 0, 128], pedestrian=[64, 64, 0],
    bicyclist=[0, 128, 192])


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid's 11 classes; there is no background, every pixel is of a class or ignored (Brostow et al., 2009)."""

    METAINFO: ClassVar[dict] = dict(classes=CLASSES, palette=[PALETTE[name] for name in CLASSES])


@DATASETS.register_module()
class CamVidThingsDataset(BaseSegDataset):
    """The six object classes of CamVid; sky, building, road, pavement and tree are background."""

    METAINFO: ClassVar[dict] = dict(
        classes=('background', *THINGS), palette=[[0, 0, 0], *(PALETTE[name] for name in THINGS)])

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """Map the masks' 11 values to background (0) and the objects (1..6)."""
        objects = {name: label for label, name in enumerate(THINGS, start=1)}
        return {value: objects.get(name, 0) for value, name in enumerate(CLASSES)}
