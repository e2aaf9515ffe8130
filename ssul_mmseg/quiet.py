"""Import mmseg without the lines that it prints at every start, and let mmengine find its distribution.

Whoever needs mmseg imports this module first.
"""
import contextlib
import gc
import io
import warnings
from collections.abc import Iterator
from importlib.metadata import packages_distributions


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Collect no garbage: what imports make stays, and to look through it again and again takes a seventh of them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


# mmcv warns that it has no compiled operators, mmseg prints that it has no cloud client; nothing here needs them.
warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
with contextlib.redirect_stdout(io.StringIO()), without_collections():
    import mmseg.datasets
    import mmseg.models  # noqa: F401
    from mmengine.config.utils import MODULE2PACKAGE


def register_distributions() -> None:
    """Let mmengine find the configs of its sister packages (``_base_ = 'mmseg::...'``) in the installed distributions.

    mmengine's table has one distribution per package, such as mmsegmentation; here onedl-mmsegmentation brings mmseg.
    """
    installed = packages_distributions()
    for module, listed in MODULE2PACKAGE.items():
        found = installed.get(module, [listed])
        if listed not in found:
            MODULE2PACKAGE[module] = found[0]


register_distributions()
