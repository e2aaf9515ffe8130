"""Start from a plain mmseg network: python tools/adopt.py configs/mine.py deeplab.pth --out work_dirs/adopted."""
from ssul_mmseg import cli
from ssul_mmseg.commands.adopt import main

if __name__ == '__main__':
    cli.run(main)
