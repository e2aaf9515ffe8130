_base_ = './voc_5-3.py'
method = 'SSUL-M'
memory = dict(size=100)
