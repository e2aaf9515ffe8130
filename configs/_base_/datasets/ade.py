# ADE20K (20,210 training images): every pixel that the task does not label is unknown; tested on its validation set.
dataset_name = 'ADE20K'
scenario = dict(num_classes=150, setting='overlapped')
saliency = 'all'
data_root = 'data/ade/ADEChallengeData2016'
crop_size = (513, 513)
test_size = 513  # None: whole images
train_dataloader = dict(
    batch_size=24,  # shared by all processes
    num_workers=4,
    persistent_workers=True,
    batch_sampler=dict(type='ReplayBatchSampler'),
    dataset=dict(
        type='TaskDataset',
        dataset=dict(
            type='ADE20KDataset',
            data_prefix=dict(img_path='images/training', seg_map_path='annotations/training')),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='LoadLabels'),
            dict(type='LabelAugmentation'),
            dict(type='RandomScale', scale=(0.5, 2.0)),
            dict(type='RandomCrop'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ]))
test_dataloader = dict(
    batch_size=8,
    num_workers=4,
    dataset=dict(
        type='TaskDataset',
        dataset=dict(
            type='ADE20KDataset',
            data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation')),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='LoadLabels'),
            dict(type='ShortSideCenterCrop'),
            dict(type='PackSegInputs'),
        ]))
