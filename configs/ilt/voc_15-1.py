_base_ = '../fine_tuning/voc_15-1.py'
method = 'ILT'
model = dict(type='ILT', decode_head=dict(dropout_ratio=0))
