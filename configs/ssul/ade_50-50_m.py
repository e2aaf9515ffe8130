_base_ = './ade_50-50.py'
method = 'SSUL-M'
memory = dict(size=300)
