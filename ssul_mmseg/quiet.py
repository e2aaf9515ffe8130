"""Importing this imports mmseg as this package needs it: without the lines that it prints at every start, and known to
mmengine by the distribution that brought it."""
import contextlib
import io
import warnings
from importlib.metadata import packages_distributions

from mmengine.config.utils import MODULE2PACKAGE

# mmcv without compiled operators, and mmseg without a cloud client, say so; nothing here needs them.
warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
with contextlib.redirect_stdout(io.StringIO()):
    import mmseg.datasets  # noqa: F401


def know_distributions() -> None:
    """Let mmengine find the configs of its sister packages, ``_base_ = 'mmseg::...'``, whoever distributes them.

    Its table has one distribution for each, such as mmsegmentation; here mmseg comes from onedl-mmsegmentation.
    """
    installed = packages_distributions()
    for module, listed in MODULE2PACKAGE.items():
        found = installed.get(module, [listed])
        if listed not in found:
            MODULE2PACKAGE[module] = found[0]


know_distributions()
