_base_ = './ade_100-10.py'
method = 'SSUL-M'
memory = dict(size=300)
