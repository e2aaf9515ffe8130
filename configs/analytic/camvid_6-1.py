_base_ = '../ssul/camvid_6-1.py'
method = 'analytic'
model = dict(type='Analytic')
