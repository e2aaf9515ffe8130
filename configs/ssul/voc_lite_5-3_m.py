_base_ = './voc_lite_5-3.py'
memory = dict(size=14)  # the paper's share of the training images: 100 * 1,464 / 10,582 = 13.8
