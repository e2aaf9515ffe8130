# DeepLab-v3, ResNet-101 with ImageNet weights, output stride 16, without auxiliary head.
model = dict(
    type='SSUL',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255),
    backbone=dict(
        type='ResNetV1c',
        depth=101,
        num_stages=4,
        out_indices=(3, ),
        dilations=(1, 1, 1, 2),
        strides=(1, 2, 2, 1),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        contract_dilation=True,
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet101_v1c')),
    decode_head=dict(
        type='IncrementalASPPHead',
        in_channels=2048,
        channels=256,
        in_index=0,
        dilations=(1, 6, 12, 18),
        dropout_ratio=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True)))
