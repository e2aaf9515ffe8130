_base_ = './voc_10-1.py'
memory = dict(size=100)
