_base_ = './ade_50-50.py'
memory = dict(size=300)
