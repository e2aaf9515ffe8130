"""Make a page of runs, with figures and pictures: python tools/report.py work_dirs/ssul/voc_15-1 --out report."""
from ssul_mmseg import cli
from ssul_mmseg.commands.report import main

if __name__ == '__main__':
    cli.run(main)
