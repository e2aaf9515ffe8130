_base_ = '../fine_tuning/voc_lite_15-1.py'
method = 'joint'
scenario = dict(joint=True)
