"""Take a network elsewhere: python tools/export.py work_dirs/ssul/voc_15-1 --task 5 --to mmseg --out voc.pth."""
from ssul_mmseg import cli
from ssul_mmseg.commands.export import main

if __name__ == '__main__':
    cli.run(main)
