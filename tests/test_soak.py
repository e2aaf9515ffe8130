import json
import os
import re
import subprocess
import sys

import pytest
from tiny import ROOT


@pytest.mark.slow
def test_killed_runs_end_as_undisturbed_ones(tmp_path):
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run([sys.executable, 'tools/soak.py', '--kills', '3', '--out', str(tmp_path)], cwd=ROOT,
                          env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / 'soak.json').read_text())
    assert len(record['kills']) == 3 and record['lost'] == record['mismatches'] == []
    assert re.search(r'\| \*\*all\*\* +\| +\*\*3\*\* \|', (tmp_path / 'soak.md').read_text())
