"""The pages of `api/` list the modules of one room of the code by themselves, so that none can be forgotten."""
from pathlib import Path

from sphinx.application import Sphinx

PACKAGE = Path(__file__).resolve().parents[2] / 'ssul_mmseg'
MODULE = """
## `{name}`

```{{eval-rst}}
.. automodule:: {name}
   :members:
   :ignore-module-all:
   :show-inheritance:
```
"""


def modules_of(room: str) -> list[str]:
    """Dotted names of the modules of a room; those of the room ``ssul_mmseg`` lie beside the rooms.

    Raises:
        LookupError: there is no such room.
    """
    files = PACKAGE.glob('*.py') if room == PACKAGE.name else (PACKAGE / room).rglob('*.py')
    names = ['.'.join(file.relative_to(PACKAGE.parent).with_suffix('').parts) for file in files
             if file.name != '__init__.py']
    if not names:
        raise LookupError(f'docs/api/{room}.md is of no room of the code; a page there has the name of a folder in '
                          'ssul_mmseg')
    return sorted(names)


def add_modules(app: Sphinx, page: str, source: list[str]) -> None:
    """Add the room's modules to a page of ``api/`` as Sphinx reads it.

    Args:
        app: Sphinx.
        page: its name, such as 'api/datasets'.
        source: its text, the only item, which is replaced.
    """
    folder, _, room = page.rpartition('/')
    if folder == 'api':
        source[0] += ''.join(MODULE.format(name=name) for name in modules_of(room))


def setup(app: Sphinx) -> dict[str, bool]:
    """Let Sphinx call :func:`add_modules` for every page."""
    app.connect('source-read', add_modules)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
