_base_ = './shapes_4-1.py'
memory = dict(size=40)
