# ASPP on a backbone of timm (pip install timm, and a torchvision that fits your torch), here ConvNeXt-Tiny at output
# stride 16, for a GPU. To use it, name it in place of deeplabv3_r101.py in the `_base_` of a config in configs/ssul.
# Another model is its model_name, and in_channels is the width of its last map:
# timm.create_model(NAME, features_only=True).feature_info.channels()[-1].
# DINOv2: model_name='vit_small_patch14_dinov2', out_indices=(-1, ), output_stride=None, dynamic_img_size=True,
# dynamic_img_pad=True, in_channels=384.
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
        type='TIMMBackbone',
        model_name='convnext_tiny',
        pretrained=True,  # fetched by timm; without network: False, and checkpoint_path to a file of timm's
        out_indices=(3, ),
        output_stride=16),
    decode_head=dict(
        type='IncrementalASPPHead',
        in_channels=768,
        channels=256,
        in_index=0,
        dilations=(1, 6, 12, 18),
        dropout_ratio=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True)))
# Later tasks start from the weights of the task before.
incremental = dict(model=dict(backbone=dict(pretrained=False)))
