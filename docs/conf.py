"""How Sphinx makes a site of the pages in this folder; `make docs` runs it."""
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / 'extensions')]

from ssul_mmseg import __version__  # noqa: E402 - of this checkout

project = 'ssul_mmseg'
release = __version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'mathml', 'rooms']
exclude_patterns = ['extensions']
# Formulas between dollars; every heading down to the third level is an anchor, so that links to it are checked.
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3
autodoc_member_order = 'bysource'
# A name of this package that a docstring links to must exist; those of other packages are not at hand, and T is the
# type variable of a function.
nitpicky = True
nitpick_ignore_regex = [('py:.*', r'(?!ssul_mmseg\.).*'), ('py:class', r'.*\.T')]
html_theme = 'furo'
html_static_path = ['extensions/static']
html_css_files = ['site.css']
html_title = f'{project} {release}'
html_show_copyright = False
html_copy_source = False
