_base_ = '../ssul/shapes_4-1.py'
method = 'analytic'
model = dict(type='Analytic')
