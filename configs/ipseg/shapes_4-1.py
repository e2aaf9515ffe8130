_base_ = '../ssul/shapes_4-1.py'
method = 'IPSeg'
model = dict(type='IPSeg')
