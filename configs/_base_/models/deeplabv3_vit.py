# ASPP on a plain vision transformer (mmseg's own), patches of 16 x 16 pixels, for a GPU. To use it, name it in place of
# deeplabv3_r101.py in the `_base_` of a config in configs/ssul.
# Weights: mmseg's converter vit2mmseg.py renames those of timm's vit_base_patch16_224; set
# model.backbone.init_cfg=dict(type='Pretrained', checkpoint=FILE) to what it writes. Another width, depth or patch is a
# value of the backbone, and in_channels is its embed_dims. DINOv2 has layers that mmseg's transformer lacks: see
# deeplabv3_timm.py.
model = dict(
    type='SSUL',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.5] * 3,
        std=[127.5] * 3,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255),
    backbone=dict(
        type='VisionTransformer',
        img_size=(512, 512),  # the positions that are learned; those of other sizes are interpolated
        patch_size=16,
        embed_dims=768,
        num_layers=12,
        num_heads=12,
        out_indices=-1,  # the last layer alone, already of stride 16: no neck
        patch_bias=True,
        final_norm=True,
        norm_cfg=dict(type='LN', eps=1e-6),
        init_cfg=None),
    decode_head=dict(
        type='IncrementalASPPHead',
        in_channels=768,
        channels=256,
        in_index=0,
        dilations=(1, 6, 12, 18),
        dropout_ratio=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True)))
