_base_ = './voc_5-1.py'
method = 'SSUL-M'
memory = dict(size=100)
