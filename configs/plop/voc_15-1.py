_base_ = '../fine_tuning/voc_15-1.py'
method = 'PLOP'
model = dict(type='PLOP', decode_head=dict(dropout_ratio=0))
incremental = dict(optim_wrapper=dict(optimizer=dict(lr=0.001)))
