# DeepLab-v3, EfficientNet-Lite0 with ImageNet weights from pip (the extra lite), output stride 16, for a CPU.
# lite1: arch and checkpoint; lite2: these two and in_channels=352.
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='SSUL',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.] * 3,
        std=[128.] * 3,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255),
    backbone=dict(
        type='EfficientNetLite',
        arch='lite0',
        output_stride=16,
        out_indices=(6, ),
        norm_cfg=norm_cfg,
        init_cfg=dict(type='Pretrained', checkpoint='efficientnet-lite://lite0')),
    decode_head=dict(
        type='IncrementalASPPHead',
        in_channels=320,
        channels=128,
        in_index=0,
        # Half of 6, 12 and 18: at half the resolution they see as much of the photograph.
        dilations=(1, 3, 6, 9),
        dropout_ratio=0.1,
        # The backbone's map knows more of later classes than the ASPP, which has learned to leave them out.
        skip=True,
        norm_cfg=norm_cfg))
