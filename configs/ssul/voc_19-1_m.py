_base_ = './voc_19-1.py'
memory = dict(size=100)
