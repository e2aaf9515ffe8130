_base_ = [
    '../_base_/datasets/voc.py', '../_base_/models/deeplabv3_r101.py', '../_base_/schedules/voc.py',
    '../_base_/default_runtime.py'
]
scenario = dict(name='15-5')
