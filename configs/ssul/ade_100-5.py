_base_ = [
    '../_base_/datasets/ade.py', '../_base_/models/deeplabv3_r101.py', '../_base_/schedules/ade.py',
    '../_base_/default_runtime.py'
]
scenario = dict(name='100-5')
