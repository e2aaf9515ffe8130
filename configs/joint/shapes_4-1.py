_base_ = '../fine_tuning/shapes_4-1.py'
method = 'joint'
scenario = dict(joint=True)
