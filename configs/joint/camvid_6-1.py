_base_ = '../fine_tuning/camvid_6-1.py'
method = 'joint'
scenario = dict(joint=True)
