_base_ = [
    '../_base_/datasets/voc_train.py', '../_base_/models/deeplabv3_lite.py', '../_base_/schedules/voc_lite.py',
    '../_base_/default_runtime.py'
]
scenario = dict(name='15-1')
