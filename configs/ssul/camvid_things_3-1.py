_base_ = [
    '../_base_/datasets/camvid_things.py', '../_base_/models/deeplabv3_r18_small.py', '../_base_/schedules/camvid.py',
    '../_base_/default_runtime.py'
]
scenario = dict(name='3-1')
