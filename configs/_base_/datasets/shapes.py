# The embedded data set: 8 shapes on textured backgrounds, 96 x 96 pixels, made on first use.
dataset_name = 'shapes'
scenario = dict(num_classes=8, setting='overlapped')
saliency = 'map'
data_root = 'data/shapes'
crop_size = (64, 64)
train_dataloader = dict(
    batch_size=16,  # shared by all processes
    num_workers=0,
    batch_sampler=dict(type='ReplayBatchSampler'),
    dataset=dict(
        type='TaskDataset',
        dataset=dict(type='ShapesDataset', split='train'),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='LoadLabels'),
            dict(type='LabelAugmentation'),
            dict(type='RandomScale', scale=(0.8, 1.4)),
            dict(type='RandomCrop'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ]))
test_dataloader = dict(
    batch_size=32,
    num_workers=0,
    dataset=dict(
        type='TaskDataset',
        dataset=dict(type='ShapesDataset', split='test'),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='LoadLabels'),
            dict(type='PackSegInputs'),
        ]))
