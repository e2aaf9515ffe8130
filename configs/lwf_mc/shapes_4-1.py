_base_ = '../fine_tuning/shapes_4-1.py'
method = 'LwF-MC'
model = dict(type='LwFMC', decode_head=dict(dropout_ratio=0, loss_decode=dict(type='SigmoidBCELoss')))
# At a tenth of the learning rate the 4 epochs of fine-tuning teach no new class: as many as SSUL has.
incremental = dict(train_cfg=dict(max_epochs=12), optim_wrapper=dict(optimizer=dict(lr=0.005)))
