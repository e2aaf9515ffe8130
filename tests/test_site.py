"""`make docs`: the site is built without a warning, is complete, loads nothing, and fits wide and narrow screens."""
import re
import subprocess
import sys

import pytest
from browser import BROWSER, browser
from tiny import ROOT

pytestmark = pytest.mark.slow
PAGES = sorted((ROOT / 'docs').rglob('*.md'))


def build(source, target):
    """Build pages with the project's configuration; the process with its output."""
    command = [sys.executable, '-m', 'sphinx', '--quiet', '--fail-on-warning', '--keep-going', '-c', ROOT / 'docs',
               '-D', 'root_doc=page', source, target]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The site that `make docs` builds with the packages of the environment that runs the tests."""
    folder = tmp_path_factory.mktemp('site') / 'html'
    installed = f'{sys.prefix}/.docs'
    result = subprocess.run(['make', 'docs', f'VENV={sys.prefix}', f'SITE={folder}', '-o', installed], cwd=ROOT,
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_every_page_and_every_module_is_there(site):
    assert len(PAGES) > 20
    for path in PAGES:
        assert (site / path.relative_to(ROOT / 'docs').with_suffix('.html')).exists(), path
    text = ''.join(path.read_text() for path in (site / 'api').glob('*.html'))
    modules = [path for path in (ROOT / 'ssul_mmseg').rglob('*.py') if path.name != '__init__.py']
    assert len(modules) > 80
    for path in modules:
        name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
        assert f'id="module-{name}"' in text, name
    # A class, a function with a formula, and an argument.
    assert 'id="ssul_mmseg.methods.ssul.SSUL"' in text and 'weight_transfer' in text
    assert '<math' in text


def test_pages_load_nothing_from_elsewhere(site):
    for path in site.rglob('*.html'):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)|<link rel="stylesheet"[^>]* href="([^"]+)',
                            path.read_text())
        for address in (first or second for first, second in loaded):
            assert '//' not in address, f'{path} loads {address}'


@pytest.mark.parametrize('text, fault', [
    ('[there](other.md)', 'other.md'), ('[there](page.md#nowhere)', 'nowhere'), ('[there](#nowhere)', 'nowhere'),
    ('$\\nothing_of_the_kind$', 'nothing_of_the_kind'),
    ('```{eval-rst}\n:func:`ssul_mmseg.api.nothing`\n```', 'ssul_mmseg.api.nothing'),
], ids=['page', 'anchor', 'own anchor', 'formula', 'reference'])
def test_a_link_to_nowhere_fails_the_build(text, fault, tmp_path):
    (tmp_path / 'pages').mkdir()
    (tmp_path / 'pages/page.md').write_text(f'# Page\n\n{text}\n')
    result = build(tmp_path / 'pages', tmp_path / 'html')
    assert result.returncode == 1 and fault in result.stderr, result.stderr


def test_a_sound_page_passes_the_build(tmp_path):
    (tmp_path / 'pages').mkdir()
    (tmp_path / 'pages/page.md').write_text('# Page\n\n[here](#page), [there](page.md#page), $\\frac{1}{2} \\tau_c$\n')
    result = build(tmp_path / 'pages', tmp_path / 'html')
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(BROWSER is None, reason='no Chromium on this machine')
@pytest.mark.parametrize('width', [1280, 390])
def test_pages_fit_the_screen_and_have_nothing_to_complain_about(site, width):
    with browser() as opened:
        for name in ('index', 'quick_start', 'scenarios', 'configs', 'methods', 'results', 'api/methods'):
            opened.open(site / f'{name}.html', width)
            assert opened.ask('document.documentElement.scrollWidth') <= width, name
            assert not opened.complaints(), name
            assert all(url.startswith('file:') for url in opened.requests()), name
            assert opened.ask('document.body.innerText.length') > 500, name
