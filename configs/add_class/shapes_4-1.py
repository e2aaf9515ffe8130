# A new class, the ring, added to the base task of shapes 4-1 from images of one's own: see docs/own_data.md.
_base_ = '../ssul/shapes_4-1.py'
dataset_name = 'rings'
data_root = 'data/rings'
scenario = dict(num_classes=5)  # background is not counted
saliency = None  # 'map' where there are saliency maps
data = dict(_delete_=True, type='BaseSegDataset', metainfo=dict(
    # The old classes in the order of learning, then the new one.
    classes=('background', 'disc', 'square', 'triangle', 'star', 'ring'),
    palette=[[0, 0, 0], [220, 60, 50], [60, 120, 230], [230, 210, 60], [130, 80, 220], [80, 190, 70]]))
train_dataloader = dict(dataset=dict(dataset=dict(data, data_prefix=dict(
    img_path='train/images', seg_map_path='train/masks'))))
test_dataloader = dict(dataset=dict(dataset=dict(data, data_prefix=dict(
    img_path='test/images', seg_map_path='test/masks'))))
incremental = dict(train_cfg=dict(max_epochs=60))  # few images need many epochs
