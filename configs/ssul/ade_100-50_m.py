_base_ = './ade_100-50.py'
method = 'SSUL-M'
memory = dict(size=300)
