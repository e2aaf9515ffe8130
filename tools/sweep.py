"""Run every cell of a table, on any number of machines: python tools/sweep.py configs/tables/shapes_table1.toml."""
from ssul_mmseg import cli
from ssul_mmseg.commands.sweep import main

if __name__ == '__main__':
    cli.run(main)
