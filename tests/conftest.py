import gc
import signal

import mmengine
import pytest
import torch


@pytest.fixture(scope='session', autouse=True)
def quick_runs():
    """Leave out what takes most of a tiny run: threads that wait, mmengine's formatting and garbage collections."""
    torch.set_num_threads(1)
    # In the background a shell lets Ctrl-C be ignored, by what the tests start too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OMP_NUM_THREADS', '1')
        patch.setattr(mmengine.Config, 'pretty_text', property(lambda self: str(self.to_dict())))
        patch.setattr(gc, 'collect', lambda generation=2: 0)
        yield
