_base_ = '../fine_tuning/voc_15-1.py'
method = 'LwF'
model = dict(type='LwF', decode_head=dict(dropout_ratio=0))
