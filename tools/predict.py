"""Predict images: python tools/predict.py configs/ssul/voc_15-1.py work_dirs/ssul/voc_15-1 photo.jpg --out found."""
from ssul_mmseg import cli
from ssul_mmseg.commands.predict import main

if __name__ == '__main__':
    cli.run(main)
