_base_ = './voc_5-3.py'
memory = dict(size=100)
