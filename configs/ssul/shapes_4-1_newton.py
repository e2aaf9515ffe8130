_base_ = './shapes_4-1.py'
method = 'SSUL-Newton'
incremental = dict(solver=dict(type='Newton'))
