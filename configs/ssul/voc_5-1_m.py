_base_ = './voc_5-1.py'
memory = dict(size=100)
