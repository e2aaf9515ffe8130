_base_ = '../ssul/ade_100-5.py'
method = 'fine-tuning'
saliency = None
model = dict(type='FineTuning', decode_head=dict(unknown=False, loss_decode=dict(type='SoftmaxCELoss')))
