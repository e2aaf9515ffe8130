_base_ = '../ssul/voc_lite_15-1.py'
method = 'IPSeg'
model = dict(type='IPSeg')
