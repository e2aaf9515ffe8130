_base_ = './voc_lite_15-1.py'
method = 'SSUL-Newton'
model = dict(draws=8192)  # without them a task's few images make background forget what else there is
incremental = dict(solver=dict(type='Newton', decay=0.01))  # chosen on a fifth of the training images
