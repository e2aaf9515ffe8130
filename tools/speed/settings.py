"""How large a benchmark is: networks, images, repetitions, and the tasks it takes them from."""
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ssul_mmseg.errors import InputError
from ssul_mmseg.scenario import Scenario

if TYPE_CHECKING:
    import torch

# Names of PyTorch's types, so that --help need not import it.
AMP = {'none': None, 'bf16': 'bfloat16', 'fp16': 'float16'}


@dataclass(frozen=True)
class Scale:
    """Sizes of everything that is measured.

    Args:
        network: a file of ``configs/_base_/models``, without '.py'.
        config: a config of every method, ``configs/<method>/<config>.py``, of that network.
        crop: side of the images, pixels.
        batch: images per iteration.
        repetitions: timed runs of each variant.
        least_seconds: a shorter variant is repeated within a run until it takes this long.
        growth: numbers of old classes, ascending.
        masks: masks that the class index scans.
        simulated_images: rows of the simulated class index.
        base_channels: width of the backbone; None: the config's.
        shell_options: after ``--cfg-options`` of commands on the embedded data set.
    """

    network: str
    config: str
    crop: int
    batch: int
    repetitions: int
    least_seconds: float
    growth: tuple[int, ...]
    masks: int
    simulated_images: int
    base_channels: int | None = None
    shell_options: tuple[str, ...] = ()


GROWTH = 10, 50, 150, 500, 1000
FULL = Scale('deeplabv3_r101', 'voc_15-1', 513, 2, 5, 0.5, GROWTH, 10_582, 1_000_000)
LITE = Scale('deeplabv3_lite', 'voc_lite_15-1', 257, 16, 5, 0.5, GROWTH, 10_582, 1_000_000)
QUICK = Scale('deeplabv3_r18_small', 'shapes_4-1', 129, 2, 3, 0.2, GROWTH, 500, 1_000_000,
              shell_options=('train_cfg.max_epochs=1', ))
TINY = Scale('deeplabv3_r18_small', 'shapes_4-1', 33, 2, 1, 0.0, (10, 1000), 70, 1000, base_channels=4, shell_options=(
    'train_cfg.max_epochs=1', 'incremental.train_cfg.max_epochs=1', 'crop_size=32', 'model.backbone.base_channels=4',
    'model.decode_head.in_channels=32', 'model.decode_head.channels=8',
    *(f'{loader}_dataloader.dataset.dataset.{key}' for loader in ('train', 'test')
      for key in ('num_train=60', 'num_test=12', 'size=48'))))


@dataclass(frozen=True)
class Options:
    """What a run of the benchmark was asked for.

    Args:
        configs: the folder of the configs.
        scale: the sizes.
        device: 'cpu' or 'cuda'.
        amp: 'none', 'bf16' or 'fp16', mixed precision of training.
    """

    configs: Path
    scale: Scale
    device: str
    amp: str = 'none'

    def __post_init__(self) -> None:
        if self.amp not in AMP:
            raise InputError(f'--amp is {self.amp!r}; choose one of {", ".join(AMP)}')

    @property
    def dtype(self) -> 'torch.dtype | None':
        """Type of mixed precision, None without."""
        import torch
        name = AMP[self.amp]
        return getattr(torch, name) if name else None


@dataclass(frozen=True)
class Setting:
    """A task of a scenario.

    Args:
        scenario: the scenario.
        task: index of the task, at least 1.
        survivors: old classes that exceed tau somewhere in an image.
    """

    scenario: Scenario
    task: int
    survivors: int

    @property
    def classes_per_task(self) -> tuple[int, ...]:
        """Classes of each task up to this one."""
        return self.scenario.classes_per_task(self.task)


SURVIVORS = 3
"""Old classes of VOC that exceed tau in an image."""
SETTINGS = {
    'voc_15-1_task1': Setting(Scenario('15-1', 20), 1, survivors=SURVIVORS),
    'ade_100-5_task10': Setting(Scenario('100-5', 150), 10, survivors=8),
}
GROWTH_SURVIVORS = 5
"""Old classes that survive tau in an image, however many there are: what one image shows does not grow."""
