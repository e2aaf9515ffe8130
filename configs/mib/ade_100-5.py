_base_ = '../fine_tuning/ade_100-5.py'
method = 'MiB'
model = dict(type='MiB', decode_head=dict(dropout_ratio=0))
