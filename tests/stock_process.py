"""Run an exported checkpoint by mmseg alone: python stock_process.py CHECKPOINT IMAGES DATA_ROOT OUT.

Started by test_export.py as a process of its own, in which this package cannot be imported.
"""
import importlib.abc
import sys

PACKAGE = 'ssul_mmseg'


class Blocker(importlib.abc.MetaPathFinder):
    """Refuses to import this package."""

    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == PACKAGE:
            raise ImportError(f'{name} is blocked')


sys.meta_path.insert(0, Blocker())

import json  # noqa: E402 - after the package is blocked
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.runner import Runner  # noqa: E402
from mmseg.apis import MMSegInferencer, inference_model, init_model  # noqa: E402

checkpoint, images, data_root, out = sys.argv[1:]
images = sorted(map(str, Path(images).glob('*.jpg')))
inferencer = MMSegInferencer(None, weights=checkpoint, device='cpu', show_progress=False)
inferred = inferencer(images)['predictions']
text = torch.load(checkpoint, weights_only=True)['meta']['cfg']
model = init_model(Config.fromstring(text, '.py'), checkpoint, device='cpu')
modelled = [sample.pred_sem_seg.data[0].numpy() for sample in inference_model(model, images)]
cfg = Config.fromstring(text, '.py')
cfg.update(load_from=checkpoint, work_dir=str(Path(out, 'stock')))
cfg.test_dataloader.dataset.data_root = data_root
metrics = Runner.from_cfg(cfg).test()
np.savez(Path(out, 'masks.npz'), inferred=np.stack(inferred), modelled=np.stack(modelled))
Path(out, 'found.json').write_text(json.dumps({
    'mIoU': float(metrics['mIoU']), 'classes': list(model.dataset_meta['classes']),
    'blocked': PACKAGE not in sys.modules}))
