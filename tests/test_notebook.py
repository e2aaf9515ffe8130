"""The demo as a notebook: committed without outputs, and it runs from its first cell to its last."""
import json
import os

import pytest
from tiny import ROOT

PATH = ROOT / 'docs/demo.ipynb'
NOTEBOOK = json.loads(PATH.read_text())
CODE = [cell for cell in NOTEBOOK['cells'] if cell['cell_type'] == 'code']


def test_it_is_committed_without_outputs_and_can_be_compiled():
    assert len(CODE) >= 4
    for cell in CODE:
        assert cell['outputs'] == [] and cell['execution_count'] is None
        compile(''.join(cell['source']), PATH.name, 'exec')


@pytest.mark.slow
def test_it_runs_and_shows_the_table_and_pictures(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    # As in a fresh checkout: the notebook begins in docs/ and finds configs/ beside it.
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
    monkeypatch.setenv('IPYTHONDIR', str(tmp_path / 'ipython'))
    found = nbformat.read(PATH, as_version=4)
    NotebookClient(found, timeout=None, resources={'metadata': {'path': str(tmp_path / 'docs')}}).execute()
    outputs = [output for cell in found.cells if cell.cell_type == 'code' for output in cell.outputs]
    shown = [kind for output in outputs for kind in output.get('data', {})]
    assert shown.count('image/png') == 3
    tables = [output.data['text/markdown'] for output in outputs if 'text/markdown' in output.get('data', {})]
    results = json.loads((tmp_path / 'work_dirs/demo/results.json').read_text())
    assert len(results['tasks']) == 5 and len(tables) == 1
    assert f'{results["final"]["all"]:.2f}' in tables[0]
    assert 'unknown' in ''.join(output.get('text', '') for output in outputs)
