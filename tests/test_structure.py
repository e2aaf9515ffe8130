"""The rooms of the code: what may import what."""
import ast

from tiny import ROOT

PACKAGE = ROOT / 'ssul_mmseg'
# Every room, with the rooms of this package that it imports; those of OPEN are open to all.
OPEN = {'errors', 'quiet', 'scenario', 'machine', 'work_dir'}
ALLOWED = {
    'errors': set(),
    'scenario': set(),
    'machine': set(),
    'quiet': set(),
    'work_dir': set(),
    'datasets': set(),
    'saliency': {'datasets'},
    'models': set(),
    'solver': {'models'},
    'methods': {'models', 'solver'},
    'evaluation': set(),
    'engine': {'datasets', 'models', 'solver', 'evaluation'},
    'components': {'datasets', 'models', 'methods', 'engine', 'evaluation'},
    'api': {'cli', 'engine', 'options', 'prediction'},
    'new_class': {'datasets', 'engine', 'options'},
    'prediction': {'datasets', 'engine'},
    'report': {'components', 'datasets', 'engine', 'evaluation', 'prediction'},
    'config_keys': {'components', 'models', 'solver'},
    'options': {'components', 'config_files', 'config_keys', 'datasets'},
    'cli': {'config_files', 'engine', 'options'},
    'config_files': set(),
    'sweep': {'cli', 'config_files', 'evaluation', 'options'},
    'commands': {'api', 'cli', 'components', 'config_files', 'datasets', 'engine', 'evaluation', 'new_class', 'options',
                 'prediction', 'report', 'saliency', 'sweep'},
    '__main__': {'cli'},
}
# A method that extends SSUL is no method without it; all others stand alone.
EXTENSIONS = {'ipseg': 'ssul'}
METHODS = [path.stem for path in (PACKAGE / 'methods').glob('*.py') if path.stem != '__init__']


def imports(path):
    """Rooms of this package that a file imports, and the modules of its own folder."""
    folder = path.relative_to(PACKAGE).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*folder, '')[:len(folder) - node.level + 1]
            # `from . import a, b` names its modules after the word import.
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names:
                if [*base, name] != ['__version__']:
                    yield [*base, *name.split('.')]


def test_every_room_imports_only_what_it_may():
    files = [path for path in PACKAGE.rglob('*.py') if path != PACKAGE / '__init__.py']
    assert len(files) > 20
    unused = {room: allowed - {room} for room, allowed in ALLOWED.items()}
    for path in files:
        room = path.relative_to(PACKAGE).with_suffix('').parts[0]
        assert room in ALLOWED, f'{path} has no place in the structure'
        for module in imports(path):
            assert module[0] in ALLOWED[room] | {room} | OPEN, f'{path} imports {module}'
            unused[room] -= set(module[:1])
    assert not any(unused.values()), unused


def test_methods_do_not_import_each_other():
    assert len(METHODS) >= 2
    for name in METHODS:
        for module in imports(PACKAGE / 'methods' / f'{name}.py'):
            extended = EXTENSIONS.get(name)
            assert module[0] != 'methods' or module[1:] == [extended], f'{name} imports {module}'


def test_every_module_has_a_test():
    tested = {path.stem.removeprefix('test_') for path in (ROOT / 'tests').glob('test_*.py')}
    for path in PACKAGE.rglob('*.py'):
        if path.stem not in ('__init__', 'errors', 'layout', 'components', 'quiet', '__main__'):
            assert path.stem in tested or path.parent.name in tested, f'{path} has no tests/test_{path.stem}.py'


def test_label_values_are_written_once():
    for path in PACKAGE.rglob('*.py'):
        if path.name != 'scenario.py':
            numbers = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
            assert not numbers & {253, 254}, f'{path} holds a bare label value'


def test_the_engine_speaks_to_the_segmentor_and_never_to_its_heads():
    files = [path for path in (PACKAGE / 'engine').glob('*.py') if path.name != 'task_config.py']
    assert len(files) > 15
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            named = getattr(node, 'attr', getattr(node, 'value', None))
            if isinstance(named, str) and not named.count(' '):
                assert not named.startswith(('decode_head', 'auxiliary_head')), f'{path}: {named}'
    # Where a config is edited: two keys of a config, no part of a network.
    used = [node for node in ast.walk(ast.parse((PACKAGE / 'engine/task_config.py').read_text()))
            if getattr(node, 'attr', None) == 'decode_head']
    assert [ast.unparse(node) for node in used] == ['cfg.model.decode_head']
