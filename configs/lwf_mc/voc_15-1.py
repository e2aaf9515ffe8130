_base_ = '../fine_tuning/voc_15-1.py'
method = 'LwF-MC'
model = dict(type='LwFMC', decode_head=dict(dropout_ratio=0, loss_decode=dict(type='SigmoidBCELoss')))
