"""See what a task is trained on: python tools/browse_labels.py configs/ssul/voc_15-1.py --task 1 --out labels."""
from ssul_mmseg import cli
from ssul_mmseg.commands.browse_labels import main

if __name__ == '__main__':
    cli.run(main)
