_base_ = '../fine_tuning/ade_100-5.py'
method = 'EWC'
model = dict(type='EWC', decode_head=dict(dropout_ratio=0))
