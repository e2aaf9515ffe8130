_base_ = '../fine_tuning/ade_100-5.py'
method = 'joint'
scenario = dict(joint=True)
