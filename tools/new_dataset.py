"""Write the config of a folder of images and masks: python tools/new_dataset.py data/tools."""
from ssul_mmseg import cli
from ssul_mmseg.commands.new_dataset import main

if __name__ == '__main__':
    cli.run(main)
