_base_ = './voc_2-1.py'
method = 'SSUL-M'
memory = dict(size=100)
