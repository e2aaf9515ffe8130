_base_ = './voc_15-5.py'
memory = dict(size=100)
