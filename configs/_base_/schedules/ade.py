# The paper's schedule for ADE20K; the weight decay, on which the paper is silent, is that of the authors' code.
train_cfg = dict(by_epoch=True, max_epochs=60)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='DeepLabPolyLR', power=0.9, eta_min=0, by_epoch=True, convert_to_iter_based=True)]
feature_cache = dict(views=5)
