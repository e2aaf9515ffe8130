"""Train all tasks of a scenario: python tools/train.py configs/ssul/voc_15-1.py."""
from ssul_mmseg import cli
from ssul_mmseg.commands.train import main, resume_command

if __name__ == '__main__':
    cli.run(main, resume_command)
