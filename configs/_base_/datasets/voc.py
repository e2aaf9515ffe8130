# Pascal VOC 2012 with the SBD masks (10,582 training images), tested on its validation set by the field's protocol.
dataset_name = 'VOC'
scenario = dict(num_classes=20, setting='overlapped')
saliency = 'map'
data_root = 'data/VOCdevkit/VOC2012'
crop_size = (513, 513)
test_size = 513  # None: whole images
train_dataloader = dict(
    batch_size=32,  # shared by all processes
    num_workers=4,
    persistent_workers=True,
    batch_sampler=dict(type='ReplayBatchSampler'),
    dataset=dict(
        type='TaskDataset',
        dataset=dict(
            type='PascalVOCDataset',
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
            ann_file='ImageSets/Segmentation/train_aug.txt'),
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
            type='PascalVOCDataset',
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
            ann_file='ImageSets/Segmentation/val.txt'),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='LoadLabels'),
            dict(type='ShortSideCenterCrop'),
            dict(type='PackSegInputs'),
        ]))
