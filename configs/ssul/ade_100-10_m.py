_base_ = './ade_100-10.py'
memory = dict(size=300)
