# The paper's optimizer on half its batch and 30 of its 50 epochs, for two CPU cores. The arithmetic, in seconds of one
# core for one image, measured on a shared server at output stride 16:
#   a training step of the whole network: lite0 0.21 at crop 257 (225: 0.15, 192: 0.10), lite2 0.26 (0.24, 0.14)
#   the trunk alone, without gradients: lite0 0.05 at 257, lite2 0.07
#   base task of 15-1 and 15-5: 30 epochs * 1,263 images * 0.21 = 2.2 hours; of 19-1: 1,435 images, 2.5 hours; of 10-1:
#     881, 1.5 hours; of 5-3 and 5-1: 413, 0.7 hours; joint training: 1,464, 2.6 hours
#   tasks 1 to 5 of 15-1, SSUL: 404 images * 5 views * 0.05 = 2 minutes, then the kept features alone
#   tasks 1 to 5 of 15-1, fine-tuning: 30 epochs * 404 images * 0.21 = 42 minutes
#   evaluation: 1,449 images * 0.05 = 1.2 minutes for all tasks of a scenario whose trunk is frozen
# `tools/dist_train.sh CONFIG 2` halves these times. Output stride 8 would cost 3 times as much.
train_cfg = dict(by_epoch=True, max_epochs=30)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='DeepLabPolyLR', power=0.9, eta_min=0, by_epoch=True, convert_to_iter_based=True)]
feature_cache = dict(views=5)
