# `saliency=None` does without saliency maps: what would be unknown is background.
_base_ = '../ssul/voc_lite_15-1.py'
method = 'analytic'
model = dict(type='Analytic', power=0.5, gamma=30.)  # chosen on a fifth of the training images
