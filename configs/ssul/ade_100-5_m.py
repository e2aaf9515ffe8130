_base_ = './ade_100-5.py'
memory = dict(size=300)
