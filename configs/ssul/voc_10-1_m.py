_base_ = './voc_10-1.py'
method = 'SSUL-M'
memory = dict(size=100)
