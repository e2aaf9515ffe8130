_base_ = '../fine_tuning/shapes_4-1.py'
method = 'EWC'
# lambda of PLOP's code: that of MiB's, 500, diverges at this learning rate (see EWC).
model = dict(type='EWC', decode_head=dict(dropout_ratio=0), penalty_weight=100)
# At a tenth of the learning rate the 4 epochs of fine-tuning teach no new class: as many as SSUL has.
incremental = dict(train_cfg=dict(max_epochs=12), optim_wrapper=dict(optimizer=dict(lr=0.005)))
