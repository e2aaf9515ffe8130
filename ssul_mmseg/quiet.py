"""Importing this imports mmseg without the lines that it prints at every start."""
import contextlib
import io
import warnings

# mmcv without compiled operators, and mmseg without a cloud client, say so; nothing here needs them.
warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
with contextlib.redirect_stdout(io.StringIO()):
    import mmseg.datasets  # noqa: F401
