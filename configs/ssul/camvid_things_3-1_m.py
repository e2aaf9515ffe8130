_base_ = './camvid_things_3-1.py'
memory = dict(size=50)
