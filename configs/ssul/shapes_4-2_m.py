_base_ = './shapes_4-2.py'
method = 'SSUL-M'
memory = dict(size=40)
