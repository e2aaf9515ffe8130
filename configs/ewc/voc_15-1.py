_base_ = '../fine_tuning/voc_15-1.py'
method = 'EWC'
model = dict(type='EWC', decode_head=dict(dropout_ratio=0))
