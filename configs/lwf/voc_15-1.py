_base_ = '../fine_tuning/voc_15-1.py'
method = 'LwF'
model = dict(type='LwF', decode_head=dict(dropout_ratio=0))
incremental = dict(optim_wrapper=dict(optimizer=dict(lr=0.001)))
