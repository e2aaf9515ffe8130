_base_ = './shapes_4-1.py'
method = 'SSUL-M'
memory = dict(size=40)
