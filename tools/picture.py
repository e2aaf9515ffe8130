"""Draw what runs predict in test images: python tools/picture.py work_dirs/ssul:0,1 work_dirs/mib:1 --out new.png."""
from ssul_mmseg import cli
from ssul_mmseg.commands.picture import main

if __name__ == '__main__':
    cli.run(main)
