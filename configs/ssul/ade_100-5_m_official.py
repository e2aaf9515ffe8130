# The authors' code where it differs from the paper, see voc_15-1_m_official.py; other scenarios: scenario.name=50-50.
_base_ = './ade_100-5_m.py'
method = 'SSUL-official'
model = dict(data_preprocessor=dict(seg_pad_val=254),  # unknown, as are all pixels of no class
             backbone=dict(norm_cfg=dict(momentum=0.01)), decode_head=dict(classifier='conv'), merge_unknown='scores')
memory = dict(labels='seen')
feature_cache = None  # each visit of an image is augmented anew
train_dataloader = dict(batch_sampler=dict(half_pass=True))
test_evaluator = dict(future_classes='ignore')
train_cfg = dict(max_epochs=100)
param_scheduler = [dict(type='LinearLR', start_factor=0.001, by_epoch=True, end=10, convert_to_iter_based=True),
                   dict(type='DeepLabPolyLR', power=0.9, eta_min=0, by_epoch=True, convert_to_iter_based=True)]
optim_wrapper = dict(optimizer=dict(nesterov=True), paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))
incremental = dict(optim_wrapper=dict(
    optimizer=dict(lr=0.05), paramwise_cfg=dict(custom_keys=dict(background=dict(lr_mult=1e-4)))))
