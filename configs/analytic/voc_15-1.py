_base_ = '../ssul/voc_15-1.py'
method = 'analytic'
model = dict(type='Analytic')
