_base_ = './camvid_6-1.py'
method = 'SSUL-M'
memory = dict(size=50)
