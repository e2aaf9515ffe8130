_base_ = '../fine_tuning/voc_lite_15-1.py'
method = 'EWC'
# PLOP's lambda: at that of MiB, 500, this learning rate is beyond SGD's limit, (1 + momentum) / lambda.
model = dict(type='EWC', penalty_weight=100, decode_head=dict(dropout_ratio=0))
