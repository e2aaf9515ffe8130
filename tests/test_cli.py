"""Arguments, exit codes and messages of the tools."""
import os
import signal
import subprocess
import sys

import pytest
from tiny import ROOT

from ssul_mmseg import cli
from ssul_mmseg.errors import InputError


def tool(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_an_unknown_option_is_refused_with_the_nearest_name_and_nothing_is_written(tmp_path):
    done = tool('tools/train.py', 'configs/ssul/voc_15-1.py', '--work-dir', str(tmp_path / 'run'), '--cfg-options',
                'model.taw=0.5')
    assert done.returncode == 2 and not (tmp_path / 'run').exists()
    assert done.stderr == "error: option model.taw: there is no 'taw' in model; did you mean model.tau?\n"


@pytest.mark.parametrize('name', ['train', 'test', 'compare', 'benchmark'])
def test_help(name):
    done = tool(f'tools/{name}.py', '--help')
    assert done.returncode == 0 and 'usage' in done.stdout


@pytest.mark.parametrize('arguments', [[], ['a', '--tasks'], ['a', '--unknown']], ids=str)
def test_wrong_arguments_are_one_line(arguments, capsys):
    parser = cli.Parser(prog='train.py')
    parser.add_argument('config')
    parser.add_argument('--tasks')
    with pytest.raises(SystemExit) as end:
        parser.parse_args(arguments)
    assert end.value.code == 2 and capsys.readouterr().err.count('\n') == 1


def test_bad_input_is_one_sentence_and_exit_code_2(capsys):
    def main(argv):
        raise InputError('mask a.png is empty; replace it')
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    assert end.value.code == 2 and capsys.readouterr().err == 'error: mask a.png is empty; replace it\n'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_stop_tells_how_to_go_on(number, capsys):
    with pytest.raises(SystemExit) as end:
        cli.run(lambda argv: os.kill(os.getpid(), number), lambda: 'python tools/train.py c.py --resume')
    assert end.value.code == 130
    assert capsys.readouterr().err == 'stopped; go on with: python tools/train.py c.py --resume\n'


def test_other_errors_keep_their_traceback():
    def main(argv):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        cli.run(main)


def test_work_dirs_of_methods_differ():
    assert cli.default_work_dir('configs/ssul/voc_15-1.py') == 'work_dirs/ssul/voc_15-1'
    assert cli.default_work_dir('configs/joint/voc_15-1.py') == 'work_dirs/joint/voc_15-1'
