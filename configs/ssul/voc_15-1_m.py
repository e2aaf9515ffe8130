_base_ = './voc_15-1.py'
memory = dict(size=100)
