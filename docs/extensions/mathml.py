"""Formulas as MathML, which browsers show by themselves: no script, no picture, no network."""
import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)
# Sizes of brackets that docutils does not know; in MathML brackets grow with what they hold.
SIZES = re.compile(r'\\[bB]igg?(?![A-Za-z])')


def _show(translator: HTML5Translator, node: nodes.Element, block: bool) -> None:
    """Write a formula; one that docutils cannot read is a warning, which fails the build.

    Raises:
        SkipNode: always, as the formula is written.
    """
    try:
        translator.body.append(tex2mathml(SIZES.sub('', node.astext()), as_block=block))
    except MathError as error:
        LOGGER.warning('formula %r cannot be read: %s', node.astext(), error, location=node)
    raise nodes.SkipNode


def show_inline(translator: HTML5Translator, node: nodes.Element) -> None:
    """Write a formula inside of a line."""
    _show(translator, node, block=False)


def show_block(translator: HTML5Translator, node: nodes.Element) -> None:
    """Write a formula with lines of its own; it scrolls where the screen is too narrow."""
    translator.body.append('<div class="formula">')
    try:
        _show(translator, node, block=True)
    finally:
        translator.body.append('</div>\n')


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer as the one that Sphinx takes."""
    app.add_html_math_renderer('mathml', (show_inline, None), (show_block, None))
    app.connect('config-inited', lambda _, config: config.__setattr__('html_math_renderer', 'mathml'))
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
