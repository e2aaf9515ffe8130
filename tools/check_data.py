"""See what the data of a config hold before any training: python tools/check_data.py configs/ssul/voc_15-1.py."""
from ssul_mmseg import cli
from ssul_mmseg.commands.check_data import main

if __name__ == '__main__':
    cli.run(main)
