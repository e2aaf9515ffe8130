"""The command ``ssul`` finds its commands, each answers at once, and the tools are the same functions."""
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from ssul_mmseg import __main__ as door
from ssul_mmseg import __version__
from ssul_mmseg.commands import train

# Not tiny.ROOT: that module loads PyTorch.
ROOT = Path(__file__).resolve().parent.parent
# Of the tools only these measure and prove, and stay in the repository.
DEVELOPERS = {'benchmark', 'soak'}
# What takes longer to import than an answer may take.
SLOW = {'torch', 'mmengine', 'mmseg', 'mmcv', 'matplotlib', 'numpy', 'cv2', 'PIL', 'jinja2'}
ANSWERS = f'''
import runpy, sys
sys.path.insert(0, 'tools')
from ssul_mmseg.__main__ import COMMANDS, main
def answer(function, *words):
    sys.argv = [*words]
    try:
        function()
    except SystemExit as end:
        assert end.code == 0, words
for option in ('--help', '--version'):
    answer(main, 'ssul', option)
    for command in COMMANDS:
        answer(main, 'ssul', command, option)
    for tool in sys.argv_tools:
        answer(lambda: runpy.run_path(tool, run_name='__main__'), tool, option)
print('slow:', sorted({SLOW!r} & set(sys.modules)))
'''


def ssul(monkeypatch, *words):
    """What a call of the command in this process ends with."""
    monkeypatch.setattr(sys, 'argv', ['/usr/bin/ssul', *words])
    door.main()


def test_help_and_version_of_all_commands_and_tools_need_no_slow_import():
    tools = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'tools').glob('*.py'))
    assert len(tools) >= 15
    code = ANSWERS.replace('sys.argv_tools', repr(tools))
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith('slow: []\n'), done.stdout[-300:]
    for command in door.COMMANDS:
        assert f'usage: ssul {command} ' in done.stdout
        assert f'\n  {command} ' in done.stdout
    assert done.stdout.count(f'ssul_mmseg {__version__}\n') == 1 + len(door.COMMANDS) + len(tools)


def test_every_command_has_a_file_and_a_summary_and_its_tool_is_the_same_function():
    files = {path.stem for path in (ROOT / 'ssul_mmseg/commands').glob('*.py')} - {'__init__'}
    assert {command.replace('-', '_') for command in door.COMMANDS} == files
    tools = {path.stem for path in (ROOT / 'tools').glob('*.py')} - DEVELOPERS
    # The names of configs need no tool: in the repository they are the files of a folder.
    assert tools == files - {'configs'}
    for name in tools:
        module = import_module(f'ssul_mmseg.commands.{name}')
        assert runpy.run_path(str(ROOT / f'tools/{name}.py'))['main'] is module.main
        assert f': ssul {name.replace("_", "-")} ' in module.__doc__


def test_the_words_after_its_name_are_a_commands_own(monkeypatch, capsys):
    ssul(monkeypatch, 'configs', 'voc_15-1_m')
    assert capsys.readouterr().out == f'ssul/voc_15-1_m\nssul/voc_15-1_m_official\nin {ROOT / "configs"}\n'


@pytest.mark.parametrize(('words', 'message'), [
    (['trian', 'voc_15-1'], 'there is no command trian; did you mean ssul train?'),
    (['xyz'], 'there is no command xyz; see ssul --help'), ([], 'required: COMMAND; see ssul --help'),
    (['--quiet', 'test'], 'the options of ssul test stand before its name; write them after it'),
    (['configs', 'xyz'], "no name holds 'xyz'; leave it out to see all of them"),
    (['train', 'voc_15-1'], ' configs are called voc_15-1; give one of analytic/voc_15-1, '),
    (['train', 'ssul/voc_15-1m'], 'there is no config ssul/voc_15-1m; did you mean ssul/voc_15-1_m or '),
    (['sweep', 'tabel1'], 'there is no table tabel1; did you mean table1 or '),
    (['train'], 'see ssul train --help')], ids=str)
def test_mistakes_end_in_a_sentence_and_exit_code_2(words, message, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        ssul(monkeypatch, *words)
    printed = capsys.readouterr()
    assert end.value.code == 2 and message in printed.err and printed.err.count('\n') == 1 and not printed.out


@pytest.mark.parametrize(('words', 'script', 'command'), [
    (['tools/train.py', 'c.py', '--resume', '--work-dir', 'a b'], '',
     "python tools/train.py c.py --work-dir 'a b' --resume"),
    (['ssul train', 'c.py'], '', 'ssul train c.py --resume'),
    (['tools/train.py', 'c.py', '--launcher', 'pytorch'], 'tools/dist_train.sh c.py 2',
     'tools/dist_train.sh c.py 2 --resume'),
    (['ssul train', 'c.py', '--launcher', 'pytorch'], '', "your launcher's command with --resume")], ids=str)
def test_the_command_to_go_on_is_this_one_with_resume(words, script, command, monkeypatch):
    monkeypatch.setattr(sys, 'argv', words)
    monkeypatch.setenv('SCRIPT', script)
    assert train.resume_command() == command
