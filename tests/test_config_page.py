"""docs/configs.md lists the keys that the program accepts, with their types and defaults, and no others."""
import ast
import inspect
import re

import pytest
from mmengine.registry import Registry
from mmseg import registry as registries
from tiny import ROOT

from ssul_mmseg.config_keys import DECIDED, OWN_KEYS, OWN_PARTS
from ssul_mmseg.datasets import label_sources  # noqa: F401 - registers what the page names
from ssul_mmseg.datasets.memory import ExemplarMemory
from ssul_mmseg.datasets.task_dataset import TaskDataset
from ssul_mmseg.engine.checkpoint_hook import CheckpointResumeHook
from ssul_mmseg.engine.feature_cache import check_cache
from ssul_mmseg.engine.run_plan import VIEWS
from ssul_mmseg.engine.task_config import TRAINED, task_config
from ssul_mmseg.models.predicting import TEST_KEYS, check_test_cfg
from ssul_mmseg.models.segmentors import IncrementalSegmentor
from ssul_mmseg.options import NEEDED_KEYS, check_option, read_config
from ssul_mmseg.scenario import Scenario
from ssul_mmseg.solver.newton import Newton
from ssul_mmseg.sweep.table_file import ROW_KEYS, TABLE_KEYS

PAGE = (ROOT / 'docs/configs.md').read_text()
ROW = re.compile(r'^\| `([\w.]+)` \| ([^|]*) \| ([^|]*) \| [^|]+ \| [^|]+ \|$', re.M)
CONFIG = str(ROOT / 'configs/ssul/shapes_4-1_m.py')
# Arguments that mmengine or TaskDataset gives and that a config cannot usefully hold.
GIVEN = {'ShapesDataset': {'pipeline', 'test_mode'}, 'IncrementalTTAModel': {'module', 'data_preprocessor'}}
PIPELINES = ('train_dataloader.dataset.pipeline.0.', 'test_dataloader.dataset.pipeline.0.')


def parts():
    """Title -> text of the parts of the page, by their nearest heading."""
    texts = re.split(r'^#{2,4} ', PAGE, flags=re.M)[1:]
    return {text.partition('\n')[0].strip('`'): text for text in texts}


PARTS = parts()
# Title -> key -> its type and default.
TABLES = {title: {key: (kind, default) for key, kind, default in ROW.findall(text)}
          for title, text in PARTS.items() if '| key | type | default |' in text}
ADDED_BY_THE_PROGRAM = PARTS['Parts without keys'].split('The program adds')[1]


def rows_of(title):
    """Last name of a key -> its type and default; the keys of one table have one prefix."""
    prefixes = {key.rpartition('.')[0] for key in TABLES[title]}
    assert len(prefixes) == 1, prefixes
    return {key.rpartition('.')[2]: row for key, row in TABLES[title].items()}


def row_of(parameter):
    """Type and default of an argument, as the page writes them."""
    kind = parameter.annotation
    kind = kind.__name__ if type(kind) is type else re.sub(r'(\w+\.)+', '', str(kind)).replace(' | ', ' or ')
    return kind, 'needed' if parameter.default is parameter.empty else f'`{parameter.default!r}`'


def arguments(function):
    """Argument -> its type and default; ``self`` and what is handed on are left out."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: row_of(parameter) for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind in named and name != 'self'}


def components():
    """Name -> class of all that a config can name of this package."""
    return {name: part for registry in vars(registries).values() if isinstance(registry, Registry)
            for name, part in registry.module_dict.items() if part.__module__.startswith('ssul_mmseg')}


def owners():
    """Name -> class, for each of those and of their parents in this package that has arguments of its own."""
    named = [part for name, part in components().items() if f'`{name}`' not in ADDED_BY_THE_PROGRAM]
    return {owner.__name__: owner for part in named for owner in inspect.getmro(part)
            if owner.__module__.startswith('ssul_mmseg') and '__init__' in vars(owner)}


def settable(owner):
    """The arguments of a class that a config may set."""
    title = owner.__name__
    prefixes = {key[:len(key) - len(key.rpartition('.')[2])] for key in TABLES.get(title, {})} or PIPELINES
    return {name: row for name, row in arguments(owner.__init__).items() if name not in GIVEN.get(title, ())
            and not any(re.fullmatch(pattern, prefix + name) for pattern in DECIDED for prefix in prefixes)}


def test_every_component_is_on_the_page():
    found = components()
    assert len(found) > 40
    for name in found:
        assert name in TABLES or f'`{name}`' in PARTS['Parts without keys'], name


@pytest.mark.parametrize('title', sorted({*owners(), 'Scenario'}))
def test_the_keys_of_a_class_are_its_arguments(title):
    expected = arguments(Scenario) if title == 'Scenario' else settable(owners()[title])
    assert (rows_of(title) if title in TABLES else {}) == expected


def test_the_keys_of_groups_are_those_of_the_code_that_reads_them():
    memory = arguments(ExemplarMemory)
    labels = arguments(TaskDataset.__init__)['exemplar_labels']
    assert rows_of('memory') == {'size': memory['size'], 'selection': memory['selection'], 'labels': labels}
    cache = arguments(check_cache)
    assert rows_of('feature_cache') == cache | {'views': (cache['views'][0], f'`{VIEWS}`')}
    assert rows_of('checkpoint') == arguments(CheckpointResumeHook.__init__)
    assert rows_of('incremental.solver') == {'type': ('text', f'`{TRAINED!r}`'), **arguments(Newton)}
    assert tuple(rows_of('model.test_cfg')) == TEST_KEYS
    assert rows_of('model.test_cfg')['mode'][1] == f'`{check_test_cfg(None).mode!r}`'
    for title, group in (('Scenario', 'scenario'), ('memory', 'memory'), ('feature_cache', 'feature_cache'),
                         ('incremental.solver', 'solver'), ('model.test_cfg', 'model.test_cfg')):
        assert set(rows_of(title)) == OWN_PARTS[group]


def test_every_table_is_compared():
    compared = {*owners(), 'Scenario', 'memory', 'feature_cache', 'checkpoint', 'incremental.solver', 'model.test_cfg'}
    assert set(TABLES) - compared == {'Top level', 'Pretrained'}


def test_the_top_level_has_all_keys_and_says_which_are_needed():
    assert set(TABLES['Top level']) == set(OWN_KEYS)
    needed = {key for key, (_, default) in TABLES['Top level'].items() if default == 'needed'}
    assert needed == set(NEEDED_KEYS) & set(OWN_KEYS)


@pytest.mark.parametrize('key', [key for key, (_, default) in TABLES['Top level'].items() if default[0] == '`'])
def test_a_key_that_is_left_out_means_its_default(key, tmp_path):
    def task(values):
        cfg = read_config(CONFIG)
        cfg.work_dir = str(tmp_path)
        cfg.pop(key, None)
        cfg.update(values)
        made = task_config(cfg, 1).to_dict()
        return {name: value for name, value in made.items() if name != key}
    default = ast.literal_eval(TABLES['Top level'][key][1].strip('`'))
    assert task({key: default}) == task({})


def test_options_of_other_projects_and_of_pretrained_weights_exist():
    keys = re.findall(r'^\| `([\w.]+)` \|', PARTS['Keys of mmengine and mmsegmentation'], re.M)
    assert len(keys) > 10
    cfg = read_config(str(ROOT / 'configs/ssul/voc_15-1_m.py'))
    for key in [*keys, *TABLES['Pretrained']]:
        check_option(cfg, key, None)


def test_every_key_of_a_table_of_runs_is_on_its_page():
    page = (ROOT / 'docs/sweep.md').read_text()
    for key in {*TABLE_KEYS, *ROW_KEYS}:
        assert re.search(rf'^{key} = |^\[\[{key}\]\]$', page, re.M), key


def test_every_method_is_in_the_table_of_methods():
    page = (ROOT / 'docs/methods.md').read_text()
    methods = [name for name, part in components().items()
               if inspect.isclass(part) and issubclass(part, IncrementalSegmentor)]
    assert len(methods) >= 9
    for name in methods:
        assert re.search(rf'^\| [^|]+ \| `{name}` \|', page, re.M), name
