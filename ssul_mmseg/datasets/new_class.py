"""Folders of images and masks that mark one new class, for a network that knows others."""
from typing import Any

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..scenario import BACKGROUND, IGNORE

HIDDEN = 1
"""The class that all other values of the masks count as: an old one, so that the task of the new class hides them."""


@DATASETS.register_module()
class NewClassDataset(BaseSegDataset):
    """Images whose masks mark the last of a network's classes by a value of their own.

    Value 0 is background and 255 is ignored. Any other value is of a class that is not learned from these masks.

    Args:
        value: the new class's value in the masks, 1 to 254.
        dataset: the arguments of mmseg's ``BaseSegDataset``; its ``metainfo`` names background, the old classes in the
            order of learning, and the new class.
    """

    def __init__(self, value: int, **dataset: Any) -> None:
        super().__init__(**dataset)
        new = len(self.metainfo['classes']) - 1
        self.label_map = {other: HIDDEN for other in range(BACKGROUND + 1, IGNORE)} | {value: new}
