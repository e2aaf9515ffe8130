_base_ = './voc_19-1.py'
method = 'SSUL-M'
memory = dict(size=100)
