"""Add a class to a learned run: python tools/add_class.py RUN IMAGES MASKS --name ring --out work_dirs/rings."""
from ssul_mmseg import cli
from ssul_mmseg.commands.add_class import main

if __name__ == '__main__':
    cli.run(main)
