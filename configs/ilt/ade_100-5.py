_base_ = '../fine_tuning/ade_100-5.py'
method = 'ILT'
model = dict(type='ILT', decode_head=dict(dropout_ratio=0))
