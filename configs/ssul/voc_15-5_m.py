_base_ = './voc_15-5.py'
method = 'SSUL-M'
memory = dict(size=100)
