"""What the wheel and the source archive hold, and that an installed wheel works in an empty folder."""
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

# Not tiny.ROOT: that module loads PyTorch.
ROOT = Path(__file__).resolve().parent.parent
PARTS = ('ssul_mmseg', 'configs', 'tests', 'tools', 'setup.py', 'setup.cfg', 'pyproject.toml', 'MANIFEST.in',
         'README.md', 'LICENSE', 'CITATION.cff')
NO_PARTS = shutil.ignore_patterns('__pycache__', 'mine', '*.egg-info')
OPTIONS = ['crop_size=(32,32)', 'train_dataloader.batch_size=8', 'model.backbone.base_channels=4',
           'model.decode_head.in_channels=32', 'model.decode_head.channels=8', 'memory.size=10',
           'train_cfg.max_epochs=2', 'incremental.train_cfg.max_epochs=1', 'feature_cache.views=1',
           *(f'{split}_dataloader.dataset.dataset.{key}' for split in ('train', 'test')
             for key in ('num_train=60', 'num_test=20', 'size=48'))]


def copied(folder):
    """A copy of the repository, with what a user may have added to it."""
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=NO_PARTS)
        else:
            shutil.copy(ROOT / name, folder / name)
    (folder / 'configs/mine').mkdir()
    (folder / 'configs/mine/own.py').write_text('')
    return folder


def build(source, kind, out):
    """Build in a source folder; the file."""
    code = f'import sys\nfrom setuptools import build_meta\nprint(build_meta.build_{kind}(sys.argv[1]))'
    done = subprocess.run([sys.executable, '-c', code, out], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope='module')
def archives(tmp_path_factory):
    """The source archive of the repository, and the wheel that is built from what the archive holds."""
    folder = tmp_path_factory.mktemp('packaging')
    source = folder / 'source'
    source.mkdir()
    sdist = build(copied(source), 'sdist', folder)
    with tarfile.open(sdist) as archive:
        # The filter came with Python 3.11.4.
        archive.extractall(folder, **({'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}))
    return sdist, build(folder / sdist.name.removesuffix('.tar.gz'), 'wheel', folder)


def files_below(*folders):
    """The files of the repository in some folders, without what Python, or a user, writes there."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob('*') if path.is_file()]
    return {str(path.relative_to(ROOT)) for path in paths if not {'__pycache__', 'mine'} & set(path.parts)}


def test_the_source_archive_holds_the_package_and_its_configs_and_no_test_and_no_tool(archives):
    with tarfile.open(archives[0]) as archive:
        names = {member.name.partition('/')[2] for member in archive if member.isfile()}
    held = {name for name in names if '.egg-info/' not in name}
    assert held == files_below('ssul_mmseg', 'configs') | {
        'setup.py', 'setup.cfg', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE',
        'CITATION.cff', 'PKG-INFO'}


def test_the_wheel_holds_every_file_of_the_package_its_configs_and_nothing_else(archives):
    names = set(zipfile.ZipFile(archives[1]).namelist())
    held = {name for name in names if '.dist-info/' not in name}
    configs = {f'ssul_mmseg/{name}' for name in files_below('configs')}
    assert len(configs) > 100
    assert held == files_below('ssul_mmseg') | configs


def test_the_files_of_a_wheel_find_their_configs_and_name_their_command(archives, tmp_path):
    with zipfile.ZipFile(archives[1]) as wheel:
        wheel.extractall(tmp_path / 'site')
        entry = next(name for name in wheel.namelist() if name.endswith('entry_points.txt'))
        assert wheel.read(entry).decode().split('\n')[:2] == ['[console_scripts]', 'ssul = ssul_mmseg.__main__:main']
    done = subprocess.run([sys.executable, '-m', 'ssul_mmseg', 'configs', 'shapes_table1'], cwd=tmp_path, text=True,
                          capture_output=True, env={**os.environ, 'PYTHONPATH': str(tmp_path / 'site')})
    assert done.stdout == f'tables/shapes_table1\nin {tmp_path / "site/ssul_mmseg/configs"}\n', done.stderr


def environment(folder):
    """An environment without this package that sees the packages which this interpreter sees; its interpreter."""
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', folder], check=True)
    python = folder / 'bin/python'
    paths = {sysconfig.get_path(name) for name in ('purelib', 'platlib')}
    # An entry of a .pth file brings modules, but not the .pth files beside them, by which this package is installed.
    (Path(installed(python, 'import sysconfig; print(sysconfig.get_path("purelib"))')) / 'shared.pth').write_text(
        '\n'.join(sorted(paths)) + '\n')
    return python


def installed(python, code):
    """What some code prints in an environment."""
    return run([python, '-c', code], python.parent).stdout.strip()


def run(command, folder, **variables):
    """Run a command as a new user's shell does."""
    kept = {key: value for key, value in os.environ.items() if key not in ('PYTHONPATH', 'VIRTUAL_ENV')}
    done = subprocess.run([str(word) for word in command], cwd=folder, text=True, capture_output=True,
                          env={**kept, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', **variables})
    assert done.returncode == 0, f'{command}: {done.stderr[-3000:]}'
    return done


def install(python, *what):
    """Install without what the shared packages bring."""
    run([sys.executable, '-m', 'pip', '--python', python, 'install', '--quiet', '--no-deps', '--no-build-isolation',
         *what], python.parent)


@pytest.mark.slow
def test_an_installed_wheel_runs_the_demo_from_an_empty_folder(archives, tmp_path):
    python = environment(tmp_path / 'environment')
    install(python, archives[1])
    ssul, empty = python.with_name('ssul'), tmp_path / 'empty'
    empty.mkdir()
    package = Path(installed(python, 'import ssul_mmseg; print(ssul_mmseg.__file__)')).parent
    assert package.is_relative_to(tmp_path / 'environment')
    done = run([ssul, 'train', 'ssul/shapes_4-1_m', '--quiet', '--cfg-options', *OPTIONS], empty)
    results = json.loads((empty / 'work_dirs/ssul/shapes_4-1_m/results.json').read_text())
    assert (empty / 'work_dirs/ssul/shapes_4-1_m/results.md').read_text().strip() in done.stdout
    assert len(results['tasks']) == 5 and results['final']['all'] is not None
    assert results['config'] == str(package / 'configs/ssul/shapes_4-1_m.py')
    done = run([ssul, 'report', 'work_dirs/ssul/shapes_4-1_m', '--out', 'report', '--images', '2'], empty)
    assert (empty / 'report/report.html').stat().st_size > 100_000
    # A cell of a table is a process of its own, which finds the package and the names in the table.
    (empty / 'own.toml').write_text("scenarios = ['4-1']\n[[rows]]\nname = 'SSUL'\nconfig = 'ssul/shapes_4-1'\n")
    small = [option for option in OPTIONS if not option.startswith('memory')]
    done = run([ssul, 'sweep', 'own.toml', '--cfg-options', *small], empty)
    assert '| SSUL ' in done.stdout
    # Two processes.
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    run([python, '-m', 'torch.distributed.run', '--nproc_per_node=2', f'--master_port={port}', '-m', 'ssul_mmseg',
         'train', 'ssul/shapes_4-1_m', '--launcher', 'pytorch', '--tasks', '0', '--work-dir', 'two', '--cfg-options',
         *OPTIONS], empty)
    assert (empty / 'two/task_0/weights.pth').is_file()


@pytest.mark.slow
def test_an_editable_install_finds_the_configs_of_its_checkout(tmp_path):
    python = environment(tmp_path / 'environment')
    checkout = tmp_path / 'checkout'
    checkout.mkdir()
    install(python, '-e', copied(checkout))
    done = run([python.with_name('ssul'), 'configs', 'mine'], tmp_path)
    assert done.stdout == f'mine/own\nin {checkout / "configs"}\n'
    assert installed(python, 'import ssul_mmseg; print(ssul_mmseg.__file__)') == str(
        checkout / 'ssul_mmseg/__init__.py')
