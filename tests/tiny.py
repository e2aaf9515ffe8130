"""Small models and data trees that several tests share."""
import contextlib
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from PIL import Image

import ssul_mmseg.components  # noqa: F401 - registers the components
from ssul_mmseg.models.segmentors import OldTask

ROOT = Path(__file__).resolve().parent.parent
init_default_scope('mmseg')


def _configs(pattern: str) -> list[str]:
    """Names of the configs whose path matches a pattern, such as ssul/voc_15-1."""
    folder = ROOT / 'configs'
    return sorted(str(path.relative_to(folder).with_suffix('')) for path in folder.glob(pattern))


# Every method, and every way to run it, has a config for VOC 15-1: with memory, or with the authors' options.
METHODS = _configs('*/voc_15-1*.py')
# Its configs for ADE20K.
ADE = _configs('*/ade_100-5[._]*py')


def tiny_model(classes_per_task, model_type='SSUL', head=None, **options):
    """A segmentor with a few channels, built and initialised from a fixed seed."""
    torch.manual_seed(len(classes_per_task))
    norm = dict(type='BN')
    model = MODELS.build(dict(
        type=model_type,
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[120.] * 3, std=[60.] * 3, bgr_to_rgb=True),
        backbone=dict(type='ResNet', depth=18, base_channels=4, num_stages=4, out_indices=(3, ), norm_cfg=norm,
                      dilations=(1, 1, 1, 2), strides=(1, 2, 2, 1), contract_dilation=True),
        decode_head=dict(type='IncrementalASPPHead', in_channels=32, channels=8, in_index=0, dilations=(1, 2),
                         norm_cfg=norm, classes_per_task=classes_per_task, **{'dropout_ratio': 0, **(head or {})}),
        **options))
    # Spread the scores, so that argmax, threshold and every row of Eq. 1 have something to decide.
    for classifier in model.decode_head.classifiers.values():
        torch.nn.init.normal_(classifier[-1].weight, std=3)
        torch.nn.init.normal_(classifier[-1].bias, std=1)
    return model


def started(model, old):
    """``model`` after it has taken over the weights of ``old``, frozen as a runner does, in training mode."""
    model.freeze()
    model.start_task(OldTask({key: value.clone() for key, value in old.state_dict().items()}))
    return model.train()


def samples_of(labels):
    """Data samples with the ground truth ``labels`` (B, H, W)."""
    return [SegDataSample(gt_sem_seg=PixelData(data=label.unsqueeze(0))) for label in labels]


def has_memory(method: str) -> bool:
    """Whether one of :data:`METHODS` has an exemplar memory, as the name of its config says."""
    return '_m' in Path(method).name


def voc_tree(root: Path, num_images: int = 40, num_classes: int = 20, size=(24, 32), seed: int = 0) -> Path:
    """A data set in VOC layout: every image holds two classes as two rectangles, with an ignored border line."""
    rng = np.random.default_rng(seed)
    for folder in ('JPEGImages', 'SegmentationClassAug', 'SaliencyMap', 'ImageSets/Segmentation'):
        (root / folder).mkdir(parents=True)
    names = []
    for i in range(num_images):
        name = f'2007_{i:06d}'
        mask = np.zeros(size, np.uint8)
        mask[4:12, 3:14] = i % num_classes + 1
        mask[10:20, 16:28] = (i + 1 + i // num_classes) % num_classes + 1
        mask[9, :] = 255
        image = rng.integers(0, 60, (*size, 3), dtype=np.uint8) + (mask * 7 % 180)[..., None].astype(np.uint8)
        Image.fromarray(image).save(root / 'JPEGImages' / f'{name}.jpg')
        palette = Image.fromarray(mask, mode='P')
        palette.putpalette(rng.integers(0, 255, 768, dtype=np.uint8).tobytes())
        palette.save(root / 'SegmentationClassAug' / f'{name}.png')
        Image.fromarray(((mask > 0) & (mask < 255)).astype(np.uint8) * 255).save(root / 'SaliencyMap' / f'{name}.png')
        names.append(name)
    for split in ('train_aug', 'val'):
        (root / 'ImageSets/Segmentation' / f'{split}.txt').write_text('\n'.join(names) + '\n')
    return root


def ade_tree(root: Path, num_images: int = 100, size=(24, 32), seed: int = 0) -> Path:
    """A data set in ADE20K's layout: every image holds a class of 1 to 100 on one of 101 to 105, and a border of 0."""
    rng = np.random.default_rng(seed)
    for split in ('training', 'validation'):
        for folder in ('images', 'annotations'):
            (root / folder / split).mkdir(parents=True)
        for i in range(num_images):
            mask = np.full(size, 101 + i % 5, np.uint8)
            mask[4:20, 3:20] = i % 100 + 1
            mask[:2] = 0
            image = rng.integers(0, 60, (*size, 3), dtype=np.uint8) + (mask * 7 % 180)[..., None].astype(np.uint8)
            Image.fromarray(image).save(root / 'images' / split / f'ADE_{i:08d}.jpg')
            Image.fromarray(mask).save(root / 'annotations' / split / f'ADE_{i:08d}.png')
    return root


def tiny_options(root: Path, **more) -> dict:
    """Options that shrink a VOC config to seconds: a tree of ``voc_tree``, a narrow network, two epochs, no cache."""
    backbone = dict(type='ResNet', depth=18, base_channels=4, init_cfg=None)
    return {
        'data_root': str(root),
        'crop_size': (24, 24),
        'test_size': 24,
        'train_dataloader.batch_size': 4, 'test_dataloader.batch_size': 8,
        'train_dataloader.num_workers': 0, 'test_dataloader.num_workers': 0,
        'train_cfg.max_epochs': 2, 'feature_cache': None,
        **{f'model.backbone.{key}': value for key, value in backbone.items()},
        'model.decode_head.in_channels': 32, 'model.decode_head.channels': 8,
        **more,
    }


def tiny_config(root: Path, work_dir: Path, config: str = 'configs/ssul/voc_15-1.py', **options) -> Config:
    """A whole config of :func:`tiny_options`."""
    from ssul_mmseg.options import read_config
    cfg = read_config(str(ROOT / config), tiny_options(root, **options))
    cfg.work_dir = str(work_dir)
    return cfg


@contextlib.contextmanager
def held(command: list[str], task: int, iteration: int, folder: Path, ranks: int = 1, **popen):
    """A run that waits before an iteration of a task, see ``held_run.py``; it is ended where the test does not.

    Args:
        command: what starts Python with a tool; 'HELD' stands for what holds it.
        task: the task.
        iteration: the iteration.
        folder: an empty folder for what the processes leave.
        ranks: number of processes.
        popen: arguments of ``subprocess.Popen``.

    Yields:
        The process that was started, and the ids of those that are held, by rank.
    """
    place = command.index('HELD')
    holding = [str(ROOT / 'tests/held_run.py'), str(task), str(iteration), str(folder)]
    process = subprocess.Popen([*command[:place], *holding, *command[place + 1:]], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, **popen)
    try:
        marks = [folder / f'held_{rank}' for rank in range(ranks)]
        # As long as it takes: a process that ends is noticed, one that hangs is ended with its test.
        while not all(mark.exists() for mark in marks):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(.01)
        yield process, [int(mark.read_text()) for mark in marks]
    finally:
        process.kill()
        process.communicate()


SWIN = dict(type='SwinTransformer', pretrain_img_size=32, embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2),
            window_size=3, mlp_ratio=2)
MIT = dict(type='MixVisionTransformer', embed_dims=4, num_stages=4, num_layers=[1] * 4, num_heads=[1, 2, 4, 8],
           patch_sizes=[7, 3, 3, 3], sr_ratios=[4, 2, 1, 1], out_indices=(0, 1, 2, 3), mlp_ratio=2)
RESNET = dict(type='ResNet', depth=18, base_channels=4, num_stages=4, out_indices=(0, 1, 2, 3),
              strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), norm_cfg=dict(type='BN'))


def network_run(folder: Path, network: dict, **options) -> Config:
    """The config of a run over VOC 19-1, on a tree of ``voc_tree``, of a network that is written out.

    Args:
        folder: an empty folder; the run's work dir is in it.
        network: the parts of ``model`` beside its type SSUL and the data preprocessor, or instead of them.
        options: dotted key to value.
    """
    from ssul_mmseg.options import read_config
    voc_tree(folder / 'voc')
    bases = [str(ROOT / 'configs/_base_' / base) for base in ('datasets/voc.py', 'schedules/voc.py',
                                                             'default_runtime.py')]
    model = {'type': 'SSUL', 'data_preprocessor': dict(
        type='SegDataPreProcessor', mean=[120.] * 3, std=[60.] * 3, bgr_to_rgb=True, pad_val=0,
        seg_pad_val=255), **network}
    file = folder / 'voc_19-1.py'
    file.write_text(f"_base_ = {bases}\nscenario = dict(name='19-1')\nmodel = {model}\n")
    small = {key: value for key, value in tiny_options(folder / 'voc').items() if not key.startswith('model.')}
    cfg = read_config(str(file), {**small, 'crop_size': (32, 32), 'train_cfg.max_epochs': 1, **options})
    cfg.work_dir = str(folder / 'work')
    return cfg
