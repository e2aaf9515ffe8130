_base_ = './ade_100-50.py'
memory = dict(size=300)
