"""The examples of documents and docstrings run, print what they show, and set keys that exist."""
import ast
import doctest
import importlib
import re

import pytest
from tiny import ROOT

from ssul_mmseg.config_keys import READ_KEYS
from ssul_mmseg.options import check_option, read_config

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
FENCE = re.compile(r'^```python\n(.*?)^```$', re.M | re.S)
BLOCKS = [(path, code) for path in PAGES for code in FENCE.findall(path.read_text())]
SESSIONS = sorted({path for path, code in BLOCKS if code.startswith('>>>')})
SCRIPTS = [(path, code) for path, code in BLOCKS if not code.startswith('>>>')]
MODULES = sorted(path for path in (ROOT / 'ssul_mmseg').rglob('*.py') if '>>> ' in path.read_text())


def settings_of(code):
    """Names that a block sets, where it is a config of this package or a part of one; else none."""
    body = ast.parse(code).body
    if any(isinstance(node, ast.Attribute) for node in ast.walk(ast.Module(body, []))):
        return []  # a program
    names = [node.targets[0].id for node in body if isinstance(node, ast.Assign)
             and isinstance(node.targets[0], ast.Name)]
    return names if len(names) == len(body) and set(names) & set(READ_KEYS) and 'default_scope' not in names else []


CONFIGS = [(path, code) for path, code in SCRIPTS if settings_of(code)]


def named(blocks):
    return [f'{path.name}-{place}' for place, (path, _) in enumerate(blocks)]


def failures_of(test):
    """What doctest reports of a test that has at least one example."""
    printed = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=printed.append)
    assert result.attempted
    return ''.join(printed)


@pytest.mark.parametrize('path', SESSIONS, ids=lambda path: path.name)
def test_sessions_of_a_page_print_what_they_show(path):
    session = ''.join(code for page, code in BLOCKS if page == path and code.startswith('>>>'))
    assert not failures_of(doctest.DocTestParser().get_doctest(session, {}, path.name, str(path), 0))


@pytest.mark.parametrize('path', MODULES, ids=lambda path: path.name)
def test_examples_of_docstrings_print_what_they_show(path):
    module = importlib.import_module('.'.join(path.relative_to(ROOT).with_suffix('').parts))
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert tests
    for test in tests:
        assert not failures_of(test)


def test_there_are_examples():
    assert len(SESSIONS) >= 1 and len(MODULES) >= 4 and len(CONFIGS) >= 5


@pytest.mark.parametrize('path, code', SCRIPTS, ids=named(SCRIPTS))
def test_what_a_script_imports_from_this_package_is_there(path, code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module.startswith('ssul_mmseg'):
            for alias in node.names:
                assert hasattr(importlib.import_module(node.module), alias.name), alias.name
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == 'ssul_mmseg':
            assert hasattr(importlib.import_module('ssul_mmseg'), node.attr), node.attr


@pytest.mark.parametrize('path, code', CONFIGS, ids=named(CONFIGS))
def test_configs_can_be_read_and_set_keys_that_exist(path, code, tmp_path):
    if '_base_' in settings_of(code):
        (tmp_path / 'configs/mine').mkdir(parents=True)
        for folder in ('_base_', 'ssul'):
            (tmp_path / 'configs' / folder).symlink_to(ROOT / 'configs' / folder)
        (tmp_path / 'configs/mine/example.py').write_text(code)
        read_config(str(tmp_path / 'configs/mine/example.py'))
        return
    values = {}
    exec(code, values)
    cfg = read_config(str(ROOT / 'configs/ssul/voc_15-1_m.py'))
    for name in settings_of(code):
        check_option(cfg, name, values[name])
