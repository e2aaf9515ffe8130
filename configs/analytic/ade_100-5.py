_base_ = '../ssul/ade_100-5.py'
method = 'analytic'
model = dict(type='Analytic')
