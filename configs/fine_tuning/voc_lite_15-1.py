_base_ = '../ssul/voc_lite_15-1.py'
method = 'fine-tuning'
saliency = None
model = dict(type='FineTuning', decode_head=dict(unknown=False, loss_decode=dict(type='SoftmaxCELoss')))
