# The authors' code where it differs from the paper (docs/paper_and_code.md). For other scenarios: scenario.name=10-1.
# The fault of its code in the labels of exemplars is a switch, off here: memory.labels=seen_off_by_one.
_base_ = './voc_15-1_m.py'
method = 'SSUL-official'
model = dict(
    data_preprocessor=dict(seg_pad_val=0), backbone=dict(norm_cfg=dict(momentum=0.01)),
    decode_head=dict(classifier='conv'), merge_unknown='scores')
memory = dict(labels='seen')
feature_cache = None  # each visit of an image is augmented anew
train_dataloader = dict(batch_sampler=dict(half_pass=True))
test_evaluator = dict(future_classes='ignore')
optim_wrapper = dict(optimizer=dict(nesterov=True), paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))
incremental = dict(optim_wrapper=dict(paramwise_cfg=dict(custom_keys=dict(background=dict(lr_mult=1e-4)))))
