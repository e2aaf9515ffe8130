_base_ = [
    '../_base_/datasets/shapes.py', '../_base_/models/deeplabv3_r18_small.py', '../_base_/schedules/small.py',
    '../_base_/default_runtime.py'
]
scenario = dict(name='4-1')
