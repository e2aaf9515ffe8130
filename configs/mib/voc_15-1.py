_base_ = '../fine_tuning/voc_15-1.py'
method = 'MiB'
model = dict(type='MiB', weight=100, decode_head=dict(dropout_ratio=0))  # weight 10 in all other scenarios
