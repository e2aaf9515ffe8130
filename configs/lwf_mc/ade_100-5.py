_base_ = '../fine_tuning/ade_100-5.py'
method = 'LwF-MC'
model = dict(type='LwFMC', decode_head=dict(dropout_ratio=0, loss_decode=dict(type='SigmoidBCELoss')))
