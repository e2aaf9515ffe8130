# VOC's 16th class added to a DeepLab-v3 of mmsegmentation that was trained on its first 15: see docs/add_a_class.md.
_base_ = '../ssul/voc_lite_15-1.py'
# The network is the plain one's. Its trunk has learned that plants are background, so the head learns on.
model = dict(freeze=False, freeze_backbone=True, decode_head=dict(projection=3, skip=False))
