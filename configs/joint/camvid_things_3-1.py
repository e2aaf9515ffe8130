_base_ = '../fine_tuning/camvid_things_3-1.py'
method = 'joint'
scenario = dict(joint=True)
