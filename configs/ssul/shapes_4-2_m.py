_base_ = './shapes_4-2.py'
memory = dict(size=40)
