"""Evaluate a learned task: python tools/test.py configs/ssul/voc_15-1.py work_dirs/ssul/voc_15-1 --task 5."""
from ssul_mmseg import cli
from ssul_mmseg.commands.test import main

if __name__ == '__main__':
    cli.run(main)
