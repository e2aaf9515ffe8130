"""Arguments, exit codes and messages of the tools."""
import math
import os
import signal
import subprocess
import sys

import pytest
from tiny import ROOT

from ssul_mmseg import cli
from ssul_mmseg.commands.train import parse_tasks
from ssul_mmseg.errors import InputError

CONFIG = 'configs/ssul/voc_15-1.py'


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Signals and variables as they were."""
    for name in ('LOCAL_RANK', 'RANK', 'WORLD_SIZE'):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def tool(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)


def ended(capsys, main, resume_command=None):
    """Exit code and error stream of a tool with this ``main``."""
    with pytest.raises(SystemExit) as end:
        cli.run(main, resume_command)
    return end.value.code, capsys.readouterr().err


def raising(error):
    def main(argv):
        raise error
    return main


def test_an_unknown_option_is_refused_with_the_nearest_name_and_nothing_is_written(tmp_path):
    done = tool('tools/train.py', CONFIG, '--work-dir', str(tmp_path / 'run'), '--cfg-options', 'model.taw=0.5')
    assert done.returncode == 2 and done.stdout == '' and not (tmp_path / 'run').exists()
    assert done.stderr == "error: option model.taw: there is no 'taw' in model; did you mean model.tau?\n"


def test_help_of_a_process():
    done = tool('tools/test.py', '--help')
    assert done.returncode == 0 and 'usage' in done.stdout and done.stderr == ''


@pytest.mark.parametrize('arguments', [[], ['a', '--tasks'], ['a', '--unknown']], ids=str)
def test_wrong_arguments_are_one_line(arguments, capsys):
    parser = cli.Parser(prog='train.py')
    parser.add_argument('config')
    parser.add_argument('--tasks')
    with pytest.raises(SystemExit) as end:
        parser.parse_args(arguments)
    messages = capsys.readouterr().err
    assert end.value.code == 2 and messages.count('\n') == 1 and messages.endswith('; see train.py --help\n')


def test_bad_input_is_one_sentence_and_exit_code_2(capsys, monkeypatch):
    sentence = 'mask a.png is empty; replace it'
    assert ended(capsys, raising(InputError(sentence))) == (2, f'error: {sentence}\n')
    worker = f'Caught InputError in DataLoader worker process 0.\nTraceback:\n...\nssul_mmseg.InputError: {sentence}\n'
    assert ended(capsys, raising(InputError(worker))) == (2, f'error: {sentence}\n')
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)  # where a half-drawn line may stand
    assert ended(capsys, raising(InputError(sentence))) == (2, f'\nerror: {sentence}\n')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_stop_tells_how_to_go_on(number, capsys):
    def main(argv):
        # Without a handler of its own the signal would end the tests.
        assert callable(signal.getsignal(number))
        os.kill(os.getpid(), number)
    assert ended(capsys, main, lambda: 'python c.py --resume') == (130, 'stopped; go on with: python c.py --resume\n')
    assert ended(capsys, main) == (130, 'stopped\n')


def test_tasks_are_one_or_a_range_with_both_ends():
    assert parse_tasks('3') == range(3, 4) and parse_tasks('0-3') == range(4) and parse_tasks('2-2') == range(2, 3)
    for text in ('3-2', '-1', '1-', 'all', '1,2', ' 1', '1\n'):
        with pytest.raises(InputError, match='--tasks'):
            parse_tasks(text)


def test_who_reads_no_further_ends_it_quietly():
    code = "from ssul_mmseg import cli; cli.run(lambda _: print('line\\n' * 100_000))"
    done = subprocess.run(f'{sys.executable} -c "{code}" | head -1', shell=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('line\n', '')


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(raising(ZeroDivisionError()))


def parsed(*arguments):
    parser = cli.Parser()
    parser.add_argument('config')
    parser.add_argument('--work-dir')
    cli.add_common_arguments(parser)
    return parser.parse_args([str(ROOT / CONFIG), *arguments])


def test_a_config_with_its_options_its_place_and_its_launcher():
    cfg = cli.configure(parsed('--work-dir', 'here', '--cfg-options', 'model.tau=0.25', '--local-rank', '3'))
    assert (cfg.model.tau, cfg.work_dir, cfg.launcher, os.environ['LOCAL_RANK']) == (.25, 'here', 'none', '3')
    cli.configure(parsed('--local_rank', '4'))
    assert os.environ['LOCAL_RANK'] == '3'  # what torchrun has set holds


def test_an_option_without_a_value_is_reported(capsys):
    with pytest.raises(SystemExit) as end:
        parsed('--cfg-options', 'model.tau')
    assert end.value.code == 2 and '--cfg-options model.tau has no value; give KEY=VALUE' in capsys.readouterr().err


def test_the_work_dir_is_the_commands_or_the_configs_or_that_of_its_name(tmp_path):
    assert cli.configure(parsed()).work_dir == 'work_dirs/ssul/voc_15-1'
    config = tmp_path / 'mine.py'
    config.write_text(f"_base_ = '{ROOT / CONFIG}'\nwork_dir = 'there'\n")
    arguments = parsed()
    arguments.config = str(config)
    assert cli.configure(arguments).work_dir == 'there'
    arguments.work_dir = 'here'
    assert cli.configure(arguments).work_dir == 'here'


def test_work_dirs_of_methods_differ():
    assert cli.default_work_dir('configs/ssul/voc_15-1.py') == 'work_dirs/ssul/voc_15-1'
    assert cli.default_work_dir('configs/joint/voc_15-1.py') == 'work_dirs/joint/voc_15-1'


@pytest.mark.parametrize(('text', 'value'), [
    ('/data/voc 2012', '/data/voc 2012'), (' a  b ', ' a  b '), ('/a,b', '/a,b'), ("'a b'", 'a b'), ('', ''),
    ("men's shoe", "men's shoe"), ('0.5', 0.5), ('1e-4', 1e-4), ('7', 7), ('-1', -1), ('True', True), ('false', False),
    ('None', None), ('[1,2]', [1, 2]), ('1,2', [1, 2]), ('(32,32)', (32, 32)), ('[a b, c]', ['a b', 'c']), ('[]', []),
    ('[[1,2],[x, "y, z"]]', [[1, 2], ['x', 'y, z']]), ('[VOC,2]', ['VOC', 2]), ('a=b', 'a=b'),
    # What Python would read as a number or a value of its own.
    ('2012_13', '2012_13'), ('007', '007'), ('[1_0, 2]', ['1_0', 2]), ('"2012_13"', '2012_13'),
    ("['1_2', a]", ['1_2', 'a']), ('...', '...'), ('1+2j', '1+2j'), ('{1,2}', '{1,2}'), ("b'a'", "b'a'"), ('٣', '٣'),
    ("{'type': 'GN'}", {'type': 'GN'}), ('-.5', -.5), ('1.', 1.), ('inf', math.inf), (' 5 ', 5)])
def test_values_arrive_as_they_are_given(text, value):
    found = cli.parse_value(text)
    assert found == value and type(found) is type(value)


def test_spaces_of_a_value_reach_the_config():
    cfg = cli.configure(parsed('--cfg-options', 'data_root=/data/voc 2012', 'method=my method'))
    assert cfg.data_root == '/data/voc 2012' and cfg.method == 'my method'


@pytest.mark.parametrize('text', ['[1', '(a, b', '[a, (b]', '["a]'])
def test_a_list_that_does_not_end_is_one_sentence(text, capsys):
    with pytest.raises(SystemExit) as end:
        parsed('--cfg-options', f'model.tau={text}')
    message = capsys.readouterr().err
    assert end.value.code == 2 and message.count('\n') == 1 and f'model.tau={text} cannot be read' in message
