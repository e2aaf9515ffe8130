_base_ = '../ssul/shapes_4-1.py'
method = 'fine-tuning'
saliency = None
model = dict(type='FineTuning', decode_head=dict(unknown=False, loss_decode=dict(type='SoftmaxCELoss')))
# The whole network learns: an epoch costs ten times that of SSUL, and forgetting needs few.
incremental = dict(train_cfg=dict(max_epochs=4))
