# The paper's optimizer on half its batch and 30 of its 50 epochs, for two CPU cores. The arithmetic, in seconds of one
# core of a server of 2026 (crop 257, output stride 16, image read and augmented included):
#   the whole network learns: lite0 0.18 an image (192: 0.10, 225: 0.15), lite2 0.25 (192: 0.14, 225: 0.24)
#   the network only predicts: lite0 0.05 an image, lite2 0.07
#   base task of 15-1: 30 epochs * 1,263 images * 0.18 = 1.9 hours; 19-1: 1,435 images, 2.2; 10-1: 881, 1.3;
#     5-3 and 5-1: 413, 0.6; joint training: 1,464, 2.2
#   tasks 1 to 5 of 15-1, SSUL: 404 images * 5 views * 0.05 = 2 minutes, then the kept features alone
#   tasks 1 to 5 of 15-1, fine-tuning: 30 epochs * 404 images * 0.18 = 36 minutes
#   evaluation: 1,449 images * 0.05 = 1.2 minutes once a scenario, then the kept features alone
# `tools/dist_train.sh CONFIG 2` halves them. Output stride 8 would cost 3.6 times as much.
train_cfg = dict(by_epoch=True, max_epochs=30)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0, by_epoch=True, convert_to_iter_based=True)]
feature_cache = dict(views=5)
