# A new class, the ring, added to a network that mmsegmentation trained on four shapes: see docs/add_a_class.md.
_base_ = './shapes_4-1.py'
# The network is the plain one's. Its trunk has learned that rings are background, so it learns on.
model = dict(freeze=False, backbone=dict(base_channels=12), decode_head=dict(in_channels=96, channels=48, projection=3))
