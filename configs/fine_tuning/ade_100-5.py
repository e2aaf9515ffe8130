_base_ = '../ssul/ade_100-5.py'
method = 'fine-tuning'
saliency = None
model = dict(type='FineTuning', decode_head=dict(unknown=False, loss_decode=dict(type='SoftmaxCELoss')))
incremental = dict(optim_wrapper=dict(optimizer=dict(lr=0.001)))  # a tenth, as published for its rivals
