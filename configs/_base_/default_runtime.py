custom_imports = dict(imports=['ssul_mmseg.components'], allow_failed_imports=False)
default_scope = 'mmseg'
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
randomness = dict(seed=0)
# Checkpoints inside a task are checkpoint's; mmengine's own would need unpickling.
default_hooks = dict(logger=dict(type='LoggerHook', interval=50), checkpoint=None)
checkpoint = dict(interval=5, by_epoch=True)
compile = False  # torch.compile of the backbone: True, or a dict of its options
test_cfg = dict(type='TestLoop')
test_evaluator = dict(type='IncrementalIoUMetric')
