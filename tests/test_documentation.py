"""What the documents name exists: links, files, tests, options, and the flags of commands."""
import ast
import configparser
import contextlib
import io
import re
import runpy
import shlex

import pytest
import yaml
from tiny import ROOT

from ssul_mmseg import __version__
from ssul_mmseg.__main__ import module_of
from ssul_mmseg.cli import parse_value
from ssul_mmseg.config_files import find
from ssul_mmseg.config_keys import OWN_KEYS
from ssul_mmseg.options import read_config

DOCUMENTS = [*ROOT.glob('*.md'), *ROOT.glob('docs/*.md')]
README = (ROOT / 'README.md').read_text()
OPTIONS_PAGE = (ROOT / 'docs/options.md').read_text()
CODE = re.compile(r'`([^`\n]+)`')
TESTS = {node.name for path in ROOT.glob('tests/test_*.py') for node in ast.parse(path.read_text()).body
         if isinstance(node, ast.FunctionDef)}
TEXT = '\n'.join([README, *(path.read_text() for path in ROOT.glob('docs/*.md'))])
COMMANDS = re.findall(r'python (tools/[^#`\n]+)', TEXT)
NAMED_COMMANDS = re.findall(r'^(?:.* -m ssul_mmseg|ssul) ([a-z][^#`\n]+)', TEXT, re.M)
OPTIONS = [option for row in re.findall(r'^\| .* \| (`.*=.*) \|$', OPTIONS_PAGE, re.M) for code in CODE.findall(row)
           for option in shlex.split(code) if '=' in option]


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere_and_nothing_is_left_to_fill_in(path):
    text = path.read_text()
    for target in re.findall(r'\]\(([^)#]+)', text):
        assert target.startswith('https://') or (path.parent / target).exists(), target
    assert not re.search(r'@[A-Z_]+@', text)


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_named_files_and_tests_exist(path):
    for code in CODE.findall(path.read_text()):
        if re.fullmatch(r'(ssul_mmseg|tools|tests|configs|docs)/[\w./-]+', code):
            assert (ROOT / code).exists(), code
        named = re.fullmatch(r'(?:(test_\w+\.py)(?:::|$))?(test_\w+)?', code)
        if named:
            assert not named[1] or (ROOT / 'tests' / named[1]).exists(), code
            assert not named[2] or named[2] in TESTS or named[2] in OWN_KEYS, code


def test_what_the_table_of_changes_names_stands_in_the_named_files():
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    rows = re.findall(r'^\| (?!I want|-)(.*) \|(.*)\|(.*)\|$', text, re.M)
    assert len(rows) == 24
    places = []
    for _, _, where in rows:
        for path, names in re.findall(r'`(ssul_mmseg/\S+)`: ((?:`\w[\w.]*`,? ?)+)', where):
            places += [(path, name) for name in CODE.findall(names)]
        places += [(path, name) for name, path in re.findall(r'`(\w+)` in `(ssul_mmseg/\S+)`', where)]
    assert len(places) >= 10
    for path, name in places:
        assert re.search(rf'\b{name.rpartition(".")[2]}\b', (ROOT / path).read_text()), f'{path} has no {name}'


def test_every_room_of_the_code_is_in_the_table_of_rooms():
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    rooms = text[text.index('## The rooms of the code'):text.index('## Where do I change what')]
    for path in (ROOT / 'ssul_mmseg').iterdir():
        if path.name not in ('__init__.py', '__pycache__') and (path.suffix == '.py' or path.is_dir()):
            assert f'{path.name}`' in rooms or f'{path.name}/`' in rooms, path.name


def test_options_exist():
    assert len(OPTIONS) > 15
    for option in OPTIONS:
        key, value = option.split('=', 1)
        read_config(str(ROOT / 'configs/ssul/voc_15-1_m.py'), {key: parse_value(value)})


@pytest.mark.parametrize('command', COMMANDS)
def test_commands_name_configs_and_flags_that_exist(command):
    tool, *arguments = shlex.split(command)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / tool))['main'](['--help'])
    for argument in arguments:
        if argument.startswith('--'):
            assert argument in printed.getvalue()
        elif re.fullmatch(r'configs/[\w/.-]+', argument):
            assert (ROOT / argument).exists()


def test_the_citation_is_of_this_version_and_licence():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    assert {'cff-version', 'message', 'title', 'authors'} <= set(citation)
    assert citation['version'] == __version__
    assert setup['metadata']['version'] == 'attr: ssul_mmseg.__version__'
    assert citation['license'] == setup['metadata']['license']


def test_there_are_commands_of_the_package():
    assert len(NAMED_COMMANDS) > 5


@pytest.mark.parametrize('command', NAMED_COMMANDS)
def test_commands_of_the_package_name_configs_and_flags_that_exist(command):
    name, *arguments = shlex.split(command)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        module_of(name).main(['--help'])
    for argument in arguments:
        if argument.startswith('--'):
            assert argument in printed.getvalue()
        elif re.fullmatch(r'(ssul|mib|plop|joint)/\w[\w-]*', argument):
            assert find(argument).is_file()
