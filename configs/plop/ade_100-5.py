_base_ = '../fine_tuning/ade_100-5.py'
method = 'PLOP'
model = dict(type='PLOP', pod_weight=0.001, logits_weight=0.00001, decode_head=dict(dropout_ratio=0))
