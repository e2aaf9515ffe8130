"""Class-incremental semantic segmentation for mmsegmentation; importing it registers every component."""
import contextlib
import io
import warnings

# mmcv without compiled operators, and mmseg without a cloud client, say so at every import; nothing here needs them.
warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
with contextlib.redirect_stdout(io.StringIO()):
    import mmseg.datasets  # noqa: F401

from . import datasets, hooks, loops, methods, metrics, models, optim, progress, resume, samplers, transforms  # noqa: E402

__version__ = '0.1.0'
__all__ = ['datasets', 'hooks', 'loops', 'methods', 'metrics', 'models', 'optim', 'progress', 'resume', 'samplers',
           'transforms']
