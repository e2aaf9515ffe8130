_base_ = './camvid_6-1.py'
memory = dict(size=50)
