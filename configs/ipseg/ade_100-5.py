_base_ = '../ssul/ade_100-5.py'
method = 'IPSeg'
model = dict(type='IPSeg')
