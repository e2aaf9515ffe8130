"""Make saliency maps: python tools/make_saliency.py configs/ssul/voc_15-1.py --model u2netp.onnx."""
from ssul_mmseg import cli
from ssul_mmseg.commands.make_saliency import main

if __name__ == '__main__':
    cli.run(main)
