"""Tables of a sweep and a stand-in for training that tests of its workers share.

As a script, ``python tests/sweeps.py CONFIG --work-dir ...`` is what a worker starts instead of ``ssul train``: it
locks its work dir, notes its start in ``starts``, and after some time leaves the results that a run leaves.
"""
import argparse
import json
import sys
import time
from pathlib import Path

from examples import document

from ssul_mmseg.work_dir import results
from ssul_mmseg.work_dir.layout import RESULTS
from ssul_mmseg.work_dir.lock import lock_work_dir

# Not tiny.ROOT: that module loads PyTorch.
ROOT = Path(__file__).resolve().parent.parent
TABLE = '''
scenarios = ['4-1']
seeds = [0, 1, 2]

[[rows]]
name = 'SSUL'
config = 'configs/ssul/shapes_4-1.py'
base = 'SSUL'

[[rows]]
name = 'SSUL-M'
config = 'configs/ssul/shapes_4-1_m.py'
base = 'SSUL'
'''


def write_table(folder, text=TABLE):
    """A table with paths of configs that hold wherever the test runs."""
    path = folder / 'table.toml'
    path.write_text(text.replace("'configs/", f"'{ROOT}/configs/"))
    return path


def options_of(arguments):
    """The values of a stand-in's --cfg-options, as texts."""
    return dict(option.split('=', 1) for option in arguments)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    for name in ('--work-dir', '--seed', '--tasks', '--start-from'):
        parser.add_argument(name)
    parser.add_argument('--resume', action='store_true')
    parser.add_argument('--cfg-options', nargs='*', default=[])
    args = parser.parse_args()
    options, folder = options_of(args.cfg_options), Path(args.work_dir)
    with lock_work_dir(folder):
        with open(folder / 'starts', 'a') as file:
            file.write(f'{args.start_from} {" ".join(args.cfg_options)}\n')
        if args.start_from and not (Path(args.start_from) / RESULTS).exists():
            sys.exit('error: there is no task 0 to start from')
        time.sleep(float(options.get('wait', 0)))
        if options.get('fail') in (args.seed, 'all'):
            print('error: mask a.png is empty; replace it', file=sys.stderr)
            sys.exit(2)
        results.PACKAGES = ()  # to ask for their versions would load PyTorch
        found = document(int(args.seed), options['method'], finished=args.tasks is None)
        (folder / RESULTS).write_text(json.dumps(found))


if __name__ == '__main__':
    main()
