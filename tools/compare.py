"""Put runs side by side, the paper's numbers beside: python tools/compare.py work_dirs/ssul/voc_15-1 ..."""
from ssul_mmseg import cli
from ssul_mmseg.commands.compare import main

if __name__ == '__main__':
    cli.run(main)
