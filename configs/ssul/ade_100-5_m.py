_base_ = './ade_100-5.py'
method = 'SSUL-M'
memory = dict(size=300)
