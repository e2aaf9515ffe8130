_base_ = '../fine_tuning/voc_15-1.py'
method = 'PLOP'
model = dict(type='PLOP', decode_head=dict(dropout_ratio=0))
