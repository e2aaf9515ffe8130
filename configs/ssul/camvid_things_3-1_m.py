_base_ = './camvid_things_3-1.py'
method = 'SSUL-M'
memory = dict(size=50)
