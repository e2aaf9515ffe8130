_base_ = './voc_2-1.py'
memory = dict(size=100)
