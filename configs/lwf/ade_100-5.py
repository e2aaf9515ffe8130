_base_ = '../fine_tuning/ade_100-5.py'
method = 'LwF'
model = dict(type='LwF', decode_head=dict(dropout_ratio=0))
