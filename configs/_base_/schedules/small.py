# From scratch on a CPU: a base task trained to convergence, then short tasks of which only a few filters learn.
train_cfg = dict(by_epoch=True, max_epochs=10)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='DeepLabPolyLR', power=0.9, eta_min=0, by_epoch=True, convert_to_iter_based=True)]
incremental = dict(train_cfg=dict(max_epochs=12))
feature_cache = dict(views=4)
