_base_ = './voc_15-1.py'
method = 'SSUL-M'
memory = dict(size=100)
